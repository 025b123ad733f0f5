"""A perceptual network of one's own: fitted to the user's pictures without labels, where LPIPS has no weights.

A small convolutional network learns that two random views of a picture are of one picture, by VICReg (Bardes, Ponce &
LeCun 2022): with z, z' the vectors of the views, a batch of n,

    25 mean |z - z'|^2  +  25 mean_j relu(1 - std_j(z))  +  1/d sum_(i != j) cov_ij(z)^2                     (1)

the last two for both views. Views differ by crop, mirror, brightness and colour cast, and not by blur or noise: what a
network is taught to overlook, a distance in its features cannot see. Distances are those of LPIPS without its heads.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp

from diorama.codec.loss.term import Comparison, Term, unit
from diorama.core import random, release
from diorama.core.array import Array, Float, Key, Media
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.net.layers import Linear, Norm, SpatialConv
from diorama.train import Loss


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the perceptual network.

    Args:
        widths: channels of each level, every one at half the size of the one before.
        media_channels: of the media (3 for RGB).
    """

    widths: tuple[int, ...] = (32, 64, 128)
    media_channels: int = 3

    def __post_init__(self) -> None:
        if not self.widths:
            raise UserError("a perceptual network has at least one level")

    def init(self, key: Key) -> "Network":
        keys = iter(jax.random.split(key, 2 * len(self.widths)))
        sizes = list(pairwise((self.media_channels, *self.widths)))
        return Network(
            [SpatialConv.init(next(keys), a, b, stride=min(i + 1, 2)) for i, (a, b) in enumerate(sizes)],
            [SpatialConv.init(next(keys), b, b) for _, b in sizes],
            [Norm.init(b) for _, b in sizes],
        )


class Network(Module):
    """Media -> features of several depths, frame by frame."""

    enter: list[SpatialConv]
    inner: list[SpatialConv]
    norms: list[Norm]

    @property
    def width(self) -> int:
        """Channels of the deepest features."""
        return self.inner[-1].weight.shape[-1]

    def levels(self, media: Media) -> list[Float[Array, "b t h2 w2 d"]]:
        """The features of each depth."""
        x, found = media, []
        for enter, inner, norm in zip(self.enter, self.inner, self.norms, strict=True):
            x = jax.nn.silu(enter(x))
            x = x + norm(inner(x))
            found.append(x)
        return found

    def __call__(self, media: Media) -> Float[Array, "b t h2 w2 d"]:
        """The deepest features."""
        return self.levels(media.astype(jnp.float32))[-1]


class Distance(Comparison):
    """The mean over depths, positions and frames of the squared distance of features of length 1."""

    network: Network

    @property
    def name(self) -> str:
        return "perceptual"

    def compare(self, again: Media, media: Media) -> Float[Array, ""]:
        return jnp.mean(self.distance(again, media))

    def distance(self, a: Media, b: Media) -> Float[Array, "b t"]:
        """The distance of each frame, in float32."""
        pairs = zip(self.network.levels(a), self.network.levels(b), strict=True)
        return jnp.stack([jnp.square(unit(x) - unit(y)).sum(-1).mean((2, 3)) for x, y in pairs]).mean(0)


class OwnPerceptual(Comparison):
    """The distance in the features of a network fitted to the user's own pictures; the log calls it `perceptual`.

    network: its sizes. weights: its release file; "" for the one that the run makes itself, with
        `CodecStage.perceptual`.
    """

    network: NetworkConfig = static(default=NetworkConfig())
    weights: str = static(default="")

    @property
    def name(self) -> str:
        return "perceptual"

    def init(self, own: Path | None = None) -> Term:
        """Raises `UserError` where there is no such file, or it is of another network."""
        return Distance(load_network(self.network, self.weights, own), weight=self.weight)


class OwnFeatures(Module):
    """The deepest features of a network fitted to the user's own pictures, for `Alignment`; fields as those of
    `OwnPerceptual`."""

    network: NetworkConfig = static(default=NetworkConfig())
    weights: str = static(default="")

    def init(self, own: Path | None = None) -> Network:
        """Raises `UserError` where there is no such file, or it is of another network."""
        return load_network(self.network, self.weights, own)


def load_network(config: NetworkConfig, weights: str, own: Path | None) -> Network:
    """The network in the file `weights`, or in the run's `own`."""
    if not weights and own is None:
        raise UserError("a perceptual network of one's own has to be fitted first: give codec.perceptual, or weights")
    return release.load(Path(weights) if weights else own, jax.eval_shape(config.init, jax.random.key(0)))  # type: ignore[arg-type]


class Learner(Module):
    """What is fitted: the network, and layers from its deepest features to the vectors of (1), which are not kept."""

    network: Network
    hidden: Linear
    out: Linear

    @staticmethod
    def init(key: Key, config: NetworkConfig, vector: int = 256) -> "Learner":
        k1, k2, k3 = jax.random.split(key, 3)
        width = config.widths[-1]
        return Learner(config.init(k1), Linear.init(k2, width, vector), Linear.init(k3, vector, vector))

    def __call__(self, frames: Float[Array, "b 1 h w c"]) -> Float[Array, "b d"]:
        x = self.network.levels(frames)[-1].mean((1, 2, 3))
        return self.out(jax.nn.silu(self.hidden(x))).astype(jnp.float32)


@dataclass(frozen=True)
class Views:
    """Equation (1) on two views of one frame of each example, an `Objective` for `Learner`.

    Args:
        crop: of the shorter side, what a view shows. One part of an accumulated batch is a batch of its own here.
        light, cast: brightness and each channel's gain change by up to this factor.
    """

    crop: float = 0.75
    light: float = 0.2
    cast: float = 0.1

    def __call__(self, model: Learner, batch: dict[str, Array], key: Key) -> Loss:
        """Args: `batch["media"] (b, t, h, w, c)` in [-1, 1] and `batch["id"] (b,)`; b at least 2."""
        ids = batch["id"]
        k0, *keys = jax.random.split(key, 3)
        t = batch["media"].shape[1]
        frame = jnp.floor(t * random.uniform(k0, ids)).astype(int)
        frames = jnp.take_along_axis(batch["media"], frame[:, None, None, None, None], axis=1)
        dtype = model.hidden.weight.dtype
        a, b = (model(jax.vmap(self._view)(random.per_example(k, ids), frames).astype(dtype)) for k in keys)
        same = jnp.mean(jnp.square(a - b))
        deviation = jnp.stack([jnp.sqrt(jnp.var(z, axis=0, ddof=1) + 1e-4) for z in (a, b)])
        spread, shared = 2 * jnp.mean(jax.nn.relu(1 - deviation)), _off_diagonal(a) + _off_diagonal(b)
        return Loss(25 * same + 25 * spread + shared, {"same": same, "spread": spread, "covariance": shared})

    def _view(self, key: Key, x: Float[Array, "1 h w c"]) -> Float[Array, "1 s s c"]:
        k = jax.random.split(key, 5)
        side = max(1, round(self.crop * min(x.shape[1:3])))
        y, left = (jax.random.randint(k[i], (), 0, x.shape[1 + i] - side + 1) for i in (0, 1))
        x = jax.lax.dynamic_slice(x, (0, y, left, 0), (1, side, side, x.shape[-1]))
        x = jnp.where(jax.random.bernoulli(k[2]), x[:, :, ::-1], x)
        light = jax.random.uniform(k[3], (), minval=1 - self.light, maxval=1 + self.light)
        cast = jax.random.uniform(k[4], (x.shape[-1],), minval=1 - self.cast, maxval=1 + self.cast)
        return (x + 1) * light * cast - 1  # black stays black


def _off_diagonal(z: Float[Array, "b d"]) -> Float[Array, ""]:
    z = z - z.mean(0)
    covariance = z.T @ z / (len(z) - 1)
    return (jnp.sum(jnp.square(covariance)) - jnp.sum(jnp.square(jnp.diag(covariance)))) / z.shape[1]
