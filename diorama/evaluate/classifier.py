"""A small convolutional classifier trained by us on real clips: the judge of labels, and the feature extractor.

No downloaded network is needed. A clip may hold several things at once (multi-hot labels), so there is one sigmoid a
label. It is trained on single frames, and reads a clip as the mean over a few frames: it sees what is in a clip, not
how it moves. Its accuracy on held-back real clips belongs beside every figure made with it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, UInt8

from diorama.core.module import Module
from diorama.core.random import stream
from diorama.evaluate.features import Features

WIDTHS = (16, 32, 64)
FRAMES = 3  # read of a clip
BATCH = 64


class Classifier(Module):
    """Three convolutions of stride 2; mean and largest response over space; 64 features; one logit a label."""

    kernels: list[Float[Array, "3 3 i o"]]
    biases: list[Float[Array, "o"]]
    mix: Float[Array, "2o 64"]
    mix_bias: Float[Array, "64"]
    readout: Float[Array, "64 l"]
    readout_bias: Float[Array, "l"]

    def features(self, frames: Float[Array, "b h w c"]) -> Float[Array, "b 64"]:
        """The penultimate layer, of frames in [0, 1]."""
        x = frames
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            x = _halve(x, kernel)
            x = x * jax.lax.rsqrt(jnp.square(x).mean((1, 2, 3), keepdims=True) + 1e-4)
            x = jax.nn.relu(x + bias)
        x = jnp.concatenate([x.mean((1, 2)), x.max((1, 2))], -1)
        return jax.nn.relu(x @ self.mix + self.mix_bias)

    def read(self, features: Float[Array, "b 64"]) -> Float[Array, "b l"]:
        """Logits from features."""
        return features @ self.readout + self.readout_bias


def init(key: Array, channels: int, labels: int, features: int = 64) -> Classifier:
    """An untrained classifier: weights uniform with variance 2 / inputs (He et al. 2015)."""
    inputs = (channels, *WIDTHS)
    shapes: list[tuple[int, ...]] = [(3, 3, i, o) for i, o in zip(inputs, WIDTHS, strict=False)]
    shapes += [(2 * WIDTHS[-1], features), (features, labels)]
    sizes = [math.prod(shape) for shape in shapes]
    drawn = jnp.split(jax.random.uniform(key, (sum(sizes),), minval=-1), np.cumsum(sizes)[:-1])
    *kernels, mix, readout = [
        x.reshape(shape) * (6 / math.prod(shape[:-1])) ** 0.5 for x, shape in zip(drawn, shapes, strict=True)
    ]
    return Classifier(
        kernels=kernels,
        biases=[jnp.zeros(o) for o in WIDTHS],
        mix=mix,
        mix_bias=jnp.zeros(features),
        readout=readout,
        readout_bias=jnp.zeros(labels),
    )


def _halve(x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]) -> Float[Array, "b h2 w2 o"]:
    """A convolution of stride 2 as one matrix product: XLA's own is 28 times slower in a `lax.scan` on CPU."""
    h, w = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (0, 1 + h % 2), (0, 1 + w % 2), (0, 0)))
    taps = [x[:, i : i + h : 2, j : j + w : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(taps, -1) @ kernel.reshape(-1, kernel.shape[-1])


@dataclass(frozen=True)
class Judge:
    """A trained classifier and the names of its labels, at work on clips (b, t, h, w, c) uint8 of any length t."""

    network: Classifier
    names: tuple[str, ...]
    seed: int

    @property
    def title(self) -> str:
        """How it is named beside a score."""
        return f"own classifier ({len(self.names)} labels, seed {self.seed})"

    @property
    def features(self) -> Features:
        """The penultimate layer, 64 wide, as the feature extractor of other metrics."""
        return Features(self.title, self._features)

    def _features(self, clips: UInt8[np.ndarray, "b t h w c"]) -> Float[np.ndarray, "b 64"]:
        """The mean over frames, in batches of one shape, so that it compiles once for clips of one size."""
        chosen = spread_frames(clips)
        frames = chosen.reshape(-1, *chosen.shape[2:])
        room = np.zeros((-len(frames) % BATCH, *frames.shape[1:]), np.uint8)
        batches = np.concatenate([frames, room]).reshape(-1, BATCH, *frames.shape[1:])
        rows = np.concatenate([np.asarray(_features(self.network, batch)) for batch in batches])
        return rows[: len(frames)].reshape(*chosen.shape[:2], -1).mean(1)

    def logits(self, clips: UInt8[np.ndarray, "b t h w c"]) -> Float[np.ndarray, "b l"]:
        """One logit a label and clip."""
        return np.asarray(self.network.read(jnp.asarray(self._features(clips))))


def right(logits: Float[np.ndarray, "b l"], labels: Bool[np.ndarray, "b l"]) -> Bool[np.ndarray, "b"]:
    """Whether the m strongest logits of a row are exactly its m labels; for m = 1 the ordinary accuracy."""
    rank = np.argsort(np.argsort(-logits, axis=1, kind="stable"), axis=1, kind="stable")
    return ((rank < labels.sum(1, keepdims=True)) == labels).all(1)


def multi_hot(labels: Sequence[Sequence[int]], count: int) -> Bool[np.ndarray, "b l"]:
    """The label numbers of each clip, in a list even when it is one, as rows of `count` booleans."""
    table = np.zeros((len(labels), count), bool)
    for row, present in zip(table, labels, strict=True):
        row[list(present)] = True
    return table


def spread_frames(clips: UInt8[np.ndarray, "b t h w c"], frames: int = FRAMES) -> UInt8[np.ndarray, "b f h w c"]:
    """At most `frames` frames, evenly spaced from first to last."""
    t = clips.shape[1]
    return clips[:, np.linspace(0, t - 1, min(t, frames)).round().astype(int)]


def train_judge(
    clips: Sequence[UInt8[np.ndarray, "b t h w c"]],
    labels: Sequence[Bool[np.ndarray, "b l"]],
    names: Sequence[str],
    *,
    seed: int,
    steps: int = 1800,
    learning_rate: float = 1e-2,
    shift: int = 3,
) -> Judge:
    """Train a judge on real clips: a list of sets, such as stills and videos, that differ only in length.

    AdamW under a cosine decay, 64 frames a step, each moved by up to `shift` pixels. The whole training is one compiled
    loop over pixels that stay on the device, and the same seed gives the same network bit for bit on the same machine.
    """
    chosen = [spread_frames(c) for c in clips]
    media = np.concatenate([c.reshape(-1, *c.shape[2:]) for c in chosen])
    targets = np.concatenate([np.repeat(wanted, c.shape[1], 0) for c, wanted in zip(chosen, labels, strict=True)])
    if targets.shape != (len(media), len(names)):
        raise ValueError(f"{len(media)} frames, labels {targets.shape} and {len(names)} names do not fit together")
    key = stream(seed, "judge")
    network = _train(key, jnp.asarray(media), jnp.asarray(targets), steps, learning_rate, shift)
    return Judge(network, tuple(names), seed)


@partial(jax.jit, static_argnames=("steps", "learning_rate", "shift"))
def _train(key: Array, media: Array, targets: Array, steps: int, learning_rate: float, shift: int) -> Classifier:
    start, pick, move = jax.random.split(key, 3)
    network = init(start, media.shape[-1], targets.shape[1])
    optimiser = optax.adamw(optax.cosine_decay_schedule(learning_rate, steps), weight_decay=1e-2)

    def loss(network: Classifier, frames: Array, wanted: Array) -> Array:
        logits = network.read(network.features(frames / 255.0))
        return optax.sigmoid_binary_cross_entropy(logits, wanted).sum(1).mean()

    def step(state: tuple, chosen: tuple) -> tuple[tuple, None]:
        network, memory = state
        index, offsets = chosen
        frames = jax.vmap(partial(_shifted, shift=shift))(media[index], offsets)
        gradient = jax.grad(loss)(network, frames, targets[index].astype(jnp.float32))
        update, memory = optimiser.update(gradient, memory, network)
        return (optax.apply_updates(network, update), memory), None

    index = jax.random.randint(pick, (steps, BATCH), 0, len(media))
    offsets = jax.random.randint(move, (steps, BATCH, 2), 0, 2 * shift + 1)
    (network, _), _ = jax.lax.scan(step, (network, optimiser.init(network)), (index, offsets))
    return _unit_features(network, media[:: max(1, len(media) // 512)])


def _unit_features(network: Classifier, frames: Array) -> Classifier:
    """The same logits from features of mean square 1 over `frames`: the kernel distance is not blind to scale."""
    scale = jnp.sqrt(jnp.square(network.features(frames / 255.0)).mean())
    return replace(network, mix=network.mix / scale, mix_bias=network.mix_bias / scale, readout=network.readout * scale)


def _shifted(frame: Array, offset: Array, shift: int) -> Array:
    padded = jnp.pad(frame, ((shift, shift), (shift, shift), (0, 0)), mode="edge")
    return jax.lax.dynamic_slice(padded, (offset[0], offset[1], 0), frame.shape)


@jax.jit
def _features(network: Classifier, frames: Array) -> Array:
    return network.features(frames / 255.0)
