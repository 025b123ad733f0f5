"""Conditions: named signals, and the three ways in which they reach a network.

    broadcast  one vector for all tokens (class, speed)
    tokens     tokens of their own (text, references)
    aligned    channels on the grid of the latents (a lower resolution of the clip, and which frames it knows)

A `Signal` carries its value and whether it is present; an absent one is replaced by a learned null. Dropping a
signal in training and leaving it out for classifier-free guidance are the same act.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core import random
from diorama.core.array import Array, Bool, Float, Int, Key, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module, scan, stack, static
from diorama.net.attention import SelfAttention, check_heads
from diorama.net.layers import Linear, NoiseLevel, Norm
from diorama.net.memory import Memory
from diorama.net.places import Frames, Places


class Signal(Module):
    """A condition's value `(b, ...)` and for which examples it is present."""

    value: Array
    present: Bool[Array, "b"]


Signals = dict[str, Signal]


def null(signals: Signals) -> Signals:
    """The same signals, none of them present."""
    return {k: Signal(s.value, jnp.zeros_like(s.present)) for k, s in signals.items()}


class Perturbed(Module):
    """Signals for a network of which some self-attention, of some examples, is identity: a worse network.

    Guiding away from it makes structure coherent, with conditions or without (perturbed attention, Ahn et al. 2024,
    arXiv 2403.17377). Examples for which nothing is `alone` get exactly what the network says otherwise.
    """

    signals: Signals
    alone: Bool[Array, "b k"]  # k layers of self-attention, in order


class Remembering(Module):
    """Signals for a network that goes on from past frames."""

    signals: Signals | Perturbed
    memory: Memory


class Packed(Module):
    """Signals of packed clips (rows * s, ...), s clips a row, where the tokens of the rows lie, and of which frames."""

    signals: Signals
    places: Places
    frames: Frames


class Context(Module):
    """What the network sees of all signals together; `None` where no signal comes that way."""

    broadcast: Float[Array, "b d"] | Float[Array, "b t d"] | None = None  # of all frames, or of each
    tokens: Float[Array, "b l d"] | None = None
    mask: Bool[Array, "b l"] | None = None
    aligned: Float[Array, "b t h w k"] | None = None
    alone: Bool[Array, "b k"] | None = None  # as in `Perturbed`
    memory: Memory | None = None  # of past frames
    places: Places | None = None  # of a pack: where each of its tokens lies, and in which clip
    frames: Frames | None = None  # of a pack: `broadcast` and noise levels go by them, not by tokens
    segment: Int[Array, "b l"] | None = None  # of a pack: the clip that each of `tokens` is said of

    def token_segments(self) -> Int[Array, "b l"]:
        """The clip that each of `tokens` is said of, 0 where a row is one clip, -1 for those that are masked."""
        assert self.mask is not None
        return jnp.where(self.mask, 0 if self.segment is None else self.segment, -1)

    def packed(self, places: Places, frames: Frames) -> "Context":
        """This context of clips (rows * s, ...), as tokens and frames of rows meet it, each that of its own clip."""
        assert places.segment is not None
        rows = len(places.segment)
        clips = next((len(x) // rows for x in (self.broadcast, self.tokens) if x is not None), 0)
        own = jnp.maximum(places.segment, 0) + clips * jnp.arange(rows)[:, None]
        if self.tokens is None or self.mask is None:
            said = Context()
        else:
            length = self.tokens.shape[1]
            segment = jnp.repeat(jnp.arange(clips), length)
            said = Context(
                tokens=self.tokens.reshape(rows, clips * length, -1), mask=self.mask.reshape(rows, -1),
                segment=jnp.broadcast_to(segment, (rows, clips * length)),
            )  # fmt: skip
        broadcast = None if self.broadcast is None else self.broadcast[frames.each(own)]
        return replace(said, broadcast=broadcast, places=places, frames=frames)

    def sees_tokens(self, places: Places) -> Bool[Array, "b #n l"]:
        """Which of `tokens` are seen from `places`: those of the same clip."""
        assert self.mask is not None
        if self.segment is None or places.segment is None:
            return self.mask[:, None]
        return places.segment[:, :, None] == self.token_segments()[:, None]


@dataclass(frozen=True)
class LabelConfig:
    """A class of `classes`, broadcast.

    Args:
        classes: how many there are; values are 0 to classes - 1.
        dropout: share of training examples that go without it.
    """

    classes: int = 10
    dropout: float = 0.1

    def init(self, key: Key, width: int) -> "Label":
        return Label(0.02 * jax.random.normal(key, (self.classes + 1, width)))


class Label(Module):
    """An embedding a class; the last row is the null."""

    table: Float[Array, "classes d"]

    @property
    def fixed(self) -> tuple[str, ...]:
        """As of `train.optimizer.Fixed`."""
        return ("table",)

    def given(self, value: Int[Array, "b"]) -> Bool[Array, "b"]:
        """Which examples have a class at all."""
        return value >= 0

    def __call__(self, value: Int[Array, "b"], present: Bool[Array, "b"]) -> Context:
        return Context(broadcast=self.table[jnp.where(present, value, len(self.table) - 1)])


@dataclass(frozen=True)
class TextConfig:
    """Text as tokens, and their mean as a broadcast vector, by a small transformer trained with the model.

    Args:
        vocabulary: size of the byte-pair vocabulary that is learned from the captions (see `net/text.py`).
        length: tokens kept of a caption.
        depth, heads: of the encoder.
        dropout: share of training examples that go without it.
    """

    vocabulary: int = 1024
    length: int = 16
    depth: int = 1
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.vocabulary < 257:
            raise UserError(f"a vocabulary of {self.vocabulary} cannot hold padding and all bytes: give 257 or more")

    def init(self, key: Key, width: int) -> "Text":
        check_heads(width, self.heads)
        k1, k2, k3, k4 = jax.random.split(key, 4)
        return Text(
            0.5 * jax.random.normal(k1, (self.vocabulary, width)),
            0.1 * jax.random.normal(k2, (self.length, width)),
            stack(lambda k: TextBlock.init(k, width, self.heads), k3, self.depth),
            Norm.init(width),
            0.02 * jax.random.normal(k4, (width,)),
        )


class TextBlock(Module):
    norm1: Norm
    attention: SelfAttention
    norm2: Norm
    up: Linear
    down: Linear

    @staticmethod
    def init(key: Key, width: int, heads: int) -> "TextBlock":
        k1, k2, k3 = jax.random.split(key, 3)
        return TextBlock(
            Norm.init(width),
            SelfAttention.init(k1, width, heads),
            Norm.init(width),
            Linear.init(k2, width, 2 * width, split="out"),
            Linear.init(k3, 2 * width, width, scale=0.0, split="in"),
        )

    def __call__(self, x: Float[Array, "b l d"], mask: Bool[Array, "b l l"]) -> Float[Array, "b l d"]:
        still = jnp.zeros((x.shape[1], 3))  # positions are learned and already added
        x = x + self.attention(self.norm1(x), still, mask)
        return x + self.down(jax.nn.silu(self.up(self.norm2(x))))


class Text(Module):
    """Token ids (0 is padding) to one vector a token and their mean."""

    table: Float[Array, "v d"]
    position: Float[Array, "l d"]
    blocks: TextBlock
    norm: Norm
    null: Float[Array, "d"]

    @property
    def fixed(self) -> tuple[str, ...]:
        """As of `train.optimizer.Fixed`."""
        return ("table", "position")

    def given(self, value: Int[Array, "b l"]) -> Bool[Array, "b"]:
        """Which examples have any text."""
        return (value != 0).any(-1)

    def __call__(self, value: Int[Array, "b l"], present: Bool[Array, "b"]) -> Context:
        mask = (value != 0) & present[:, None]
        x = self.table[value] + self.position
        visible = mask[:, None, :] | jnp.eye(value.shape[1], dtype=bool)
        x, _ = scan(self.blocks, x, lambda block, x: (block(x, visible), None))
        x = self.norm(x)
        weight = mask.astype(x.dtype)[..., None]
        mean = (x * weight).sum(1) / jnp.maximum(weight.sum(1), 1)
        return Context(jnp.where(present[:, None], mean, self.null), x, mask)


@dataclass(frozen=True)
class LowResolutionConfig:
    """The clip itself at a lower resolution, aligned: from it a stage of a cascade makes more pixels, frames, or both.

    Noise is added to it, and the network is told how much: then it does not lean on details which the stage before
    gets wrong (noise conditioning augmentation, Ho et al. 2022, arXiv 2106.15282; Imagen Video, 2210.02303).

    Args:
        space: how many times fewer rows and columns it has.
        time: one frame of so many is known, the first among them.
        augmentation: training draws its noise level evenly from 0, clean, to this; at 1 it is noise alone.
        dropout: share of training examples that go without it.
    """

    space: int = 1
    time: int = 1
    augmentation: float = 0.5
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.space < 1 or self.time < 1 or not 0 <= self.augmentation <= 1:
            raise UserError("space and time are at least 1, and augmentation lies in [0, 1]")

    def init(self, key: Key, width: int, channels: int) -> "LowResolution":
        k1, k2, k3, k4 = jax.random.split(key, 4)
        level = NoiseLevel(Linear.init(k1, 64, width), Linear.init(k2, width, width, scale=0.0))
        enter = Linear.init(k3, channels + 1, channels + 1, scale=0.0)
        null = 0.02 * jax.random.normal(k4, (channels,))
        return LowResolution(enter, level, null, jnp.zeros(width), self.augmentation)


class LowResolution(Module):
    """Latents of the enlarged clip as channels on the grid, and their noise level as a broadcast vector.

    A value is (b, t, h, w, c + 2): those latents, how much of each frame is known (in [0, 1]; where nothing is, the
    signal is absent), and the noise level that the latents are at. Both ways in start at zero, so a network that gets
    this signal after its training says at first what it said before.
    """

    enter: Linear
    level: NoiseLevel
    null: Float[Array, "c"]
    silence: Float[Array, "d"]
    augmentation: float = static()

    @property
    def fixed(self) -> tuple[str, ...]:
        """As of `train.optimizer.Fixed`."""
        return ("enter",)

    def given(self, value: Float[Array, "b t h w c2"]) -> Bool[Array, "b"]:
        """Which examples have any frame known."""
        return (value[..., -2] > 0).any((1, 2, 3))

    def __call__(self, value: Float[Array, "b t h w c2"], present: Bool[Array, "b"]) -> Context:
        value = value.astype(self.null.dtype)
        here = present[:, None, None, None, None]
        latents, known, level = value[..., :-2], value[..., -2:-1], value[:, 0, 0, 0, -1:]
        aligned = jnp.concatenate([jnp.where(here, latents, self.null), jnp.where(here, known, 0)], axis=-1)
        return Context(jnp.where(present[:, None], self.level(level)[:, 0], self.silence), aligned=self.enter(aligned))


def noised(
    value: Float[Array, "b t h w c2"], level: Float[Array, "b"], key: Key, ids: UInt32[Array, "b"]
) -> Float[Array, "b t h w c2"]:
    """A clean `LowResolution` value at noise `level`: as it was at 0, and of its latents nothing is left at 1.

    By rectified flow over its root mean square, as a denoiser sees its input: ((1 - s) x + s e) / |1 - s, s|.
    """
    s = level[:, None, None, None, None]
    x = value[..., :-2]
    x = ((1 - s) * x + s * random.normal(key, ids, x.shape[1:])) / jnp.sqrt((1 - s) ** 2 + s**2)
    return jnp.concatenate([x, value[..., -2:-1], jnp.broadcast_to(s, value[..., -1:].shape)], axis=-1)


ConditionConfig = LabelConfig | TextConfig | LowResolutionConfig


def aligned(configs: dict[str, ConditionConfig], channels: int) -> int:
    """How many channels these conditions add to latents of `channels` on their grid."""
    return sum(channels + 1 for config in configs.values() if isinstance(config, LowResolutionConfig))


class Conditions(Module):
    """All signals of a model, by name."""

    embedders: dict[str, Label | Text | LowResolution]
    dropout: dict[str, float] = static()

    @staticmethod
    def init(key: Key, configs: dict[str, ConditionConfig], width: int, channels: int = 0) -> "Conditions":
        """Args: `width` of the network's embedding; `channels` of the latents, for what is aligned with them."""
        keys = jax.random.split(key, max(len(configs), 1))
        modules = {
            n: c.init(k, width, channels) if isinstance(c, LowResolutionConfig) else c.init(k, width)
            for (n, c), k in zip(sorted(configs.items()), keys, strict=False)
        }
        return Conditions(modules, _Frozen({n: c.dropout for n, c in sorted(configs.items())}))

    def drop(self, signals: Signals, key: Key, ids: UInt32[Array, "b"]) -> Signals:
        """Training's dropout, and the noise on a low resolution: each signal and example on its own."""
        out = {}
        for i, (name, signal) in enumerate(sorted(signals.items())):
            own, module, value = jax.random.fold_in(key, i), self.embedders[name], signal.value
            keep = random.uniform(own, ids) >= self.dropout[name]
            if isinstance(module, LowResolution):
                k_level, k_noise = jax.random.split(own)
                value = noised(value, module.augmentation * random.uniform(k_level, ids), k_noise, ids)
            out[name] = Signal(value, signal.present & keep)
        return out

    def signals(self, batch: dict[str, Array]) -> Signals:
        """The conditions that lie in a batch under their names; a label of -1, an empty text and a low resolution of
        which no frame is known are absent."""
        return {name: Signal(batch[name], module.given(batch[name])) for name, module in self.embedders.items()}

    def silent(self, signals: Signals) -> Signals | None:
        """What guidance leads away from: the same signals, none present but a low resolution, which both sides see
        (Saharia et al. 2022, arXiv 2205.11487). None where nothing else is there."""
        low = {n for n, module in self.embedders.items() if isinstance(module, LowResolution)}
        return null(signals) | {n: signals[n] for n in low} if signals.keys() - low else None

    def __call__(self, signals: Signals | Perturbed | Remembering | Packed) -> Context:
        if isinstance(signals, Packed):
            return self(signals.signals).packed(signals.places, signals.frames)
        if isinstance(signals, Remembering):
            return replace(self(signals.signals), memory=signals.memory)
        if isinstance(signals, Perturbed):
            return replace(self(signals.signals), alone=signals.alone)
        parts = [self.embedders[name](s.value, s.present) for name, s in sorted(signals.items())]
        return Context(
            broadcast=_fold([p.broadcast for p in parts], lambda xs: sum(xs)),
            tokens=_fold([p.tokens for p in parts], lambda xs: jnp.concatenate(xs, axis=1)),
            mask=_fold([p.mask for p in parts], lambda xs: jnp.concatenate(xs, axis=1)),
            aligned=_fold([p.aligned for p in parts], lambda xs: jnp.concatenate(xs, axis=-1)),
        )


class _Frozen(dict):  # type: ignore[type-arg]
    """A dict that can be part of a tree's structure."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


def _fold(items: list[Any], join: Any) -> Any:
    have = [x for x in items if x is not None]
    return join(have) if have else None
