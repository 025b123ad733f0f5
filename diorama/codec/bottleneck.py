"""What stands between encoder and decoder and decides what latents are: samples of a Gaussian, quantised, or noisy.

A bottleneck's config says how many numbers a cell it wants of the encoder (`width`) and makes a module (`init`) with
`draw`, for training, and `settle`, for use: (b, t, h, w, width) -> latents (b, t, h, w, channels).
"""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

from diorama.core import random
from diorama.core.array import Array, Float, Int, Key, Latents, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.net.layers import rms


class Drawn(Module):
    """Latents as training sees them.

    penalty: float32 scalar to be added to the loss, weighted. metrics: float32 scalars for the log.
    """

    latents: Latents
    penalty: Float[Array, ""]
    metrics: dict[str, Float[Array, ""]]


class Bottleneck(Protocol):
    """Between encoder and decoder. Noise is drawn per example, from `ids` (b,), so company changes nothing."""

    def draw(self, x: Array, ids: UInt32[Array, "b"], key: Key) -> Drawn: ...
    def settle(self, x: Array) -> Latents: ...


@dataclass(frozen=True)
class KL:
    """Latents are drawn from a Gaussian that the encoder gives; `weight` times its divergence from the standard one is
    added to the loss (Kingma & Welling 2014), small, for it only keeps the latents' scale and smoothness."""

    weight: float = 1e-4

    def width(self, channels: int) -> int:
        return 2 * channels

    def init(self, key: Key, channels: int) -> "Gaussian":
        return Gaussian(self)


class Gaussian(Module):
    """See `KL`; its input is mean and log-variance beside each other, and it settles on the mean."""

    config: KL = static()

    def draw(self, x: Array, ids: UInt32[Array, "b"], key: Key) -> Drawn:
        mean, logvar = jnp.split(x, 2, axis=-1)
        logvar = jnp.clip(logvar.astype(jnp.float32), -20, 10)
        noise = random.normal(key, ids, mean.shape[1:])
        divergence = jnp.mean(jnp.square(mean.astype(jnp.float32)) + jnp.exp(logvar) - 1 - logvar) / 2
        latents = mean + (jnp.exp(logvar / 2) * noise).astype(mean.dtype)
        return Drawn(latents, self.config.weight * divergence, {"kl": divergence})

    def settle(self, x: Array) -> Latents:
        return jnp.split(x, 2, axis=-1)[0]


@dataclass(frozen=True)
class FSQ:
    """Finite scalar quantisation (Mentzer et al. 2023): each channel is bounded and rounded to one of a few levels.

    Args:
        levels: of each channel, repeated over the channels there are; two make them bits (lookup-free quantisation).
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2:
            raise UserError(f"levels={self.levels}: every channel takes at least 2")

    def width(self, channels: int) -> int:
        return channels

    def init(self, key: Key, channels: int) -> "Rounded":
        return Rounded(tuple(self.levels[i % len(self.levels)] for i in range(channels)))


class Rounded(Module):
    """See `FSQ`. Latents are evenly spaced from -1 to 1; the gradient passes the rounding as if it were not there."""

    levels: tuple[int, ...] = static()

    def draw(self, x: Array, ids: UInt32[Array, "b"], key: Key) -> Drawn:
        return Drawn(self.settle(x), jnp.zeros(()), {})

    def settle(self, x: Array) -> Latents:
        levels = jnp.array(self.levels, jnp.float32)
        middle = (levels - 1) / 2
        # bounded to half a level beyond the outer ones, so that all have the same share of the range
        level = middle + (1 - 1e-3) * levels / 2 * jnp.tanh(x.astype(jnp.float32))
        return (_through(level, jnp.round(level)) / middle - 1).astype(x.dtype)

    def number(self, latents: Latents) -> Int[Array, "b t h w c"]:
        """Which level each number is, from 0."""
        middle = (jnp.array(self.levels, jnp.float32) - 1) / 2
        return jnp.round((latents.astype(jnp.float32) + 1) * middle).astype(jnp.int32)


@dataclass(frozen=True)
class VQ:
    """Vector quantisation (van den Oord et al. 2017): each cell is the nearest of `codes` learned vectors.

    Both are of unit length (Yu et al. 2022), which keeps codes in use.

    Args:
        commitment: weight of the encoder's distance to its code, beside 1 for the code's distance to the encoder.
    """

    codes: int = 4096
    commitment: float = 0.25

    def __post_init__(self) -> None:
        if self.codes < 2:
            raise UserError(f"codes={self.codes}: give at least 2")

    def width(self, channels: int) -> int:
        return channels

    def init(self, key: Key, channels: int) -> "Lookup":
        return Lookup(jax.random.normal(key, (self.codes, channels)), self)


class Lookup(Module):
    """See `VQ`. Latents have a mean square of 1 over their channels."""

    codes: Float[Array, "n c"]
    config: VQ = static()

    def draw(self, x: Array, ids: UInt32[Array, "b"], key: Key) -> Drawn:
        x, found = self._nearest(x)
        distance = jnp.mean(jnp.square(jax.lax.stop_gradient(x) - found))
        commitment = jnp.mean(jnp.square(x - jax.lax.stop_gradient(found)))
        metrics = {"code_distance": commitment}
        penalty = distance + self.config.commitment * commitment
        return Drawn(_through(x, found).astype(self.codes.dtype), penalty, metrics)

    def settle(self, x: Array) -> Latents:
        return self._nearest(x)[1].astype(self.codes.dtype)

    def number(self, latents: Latents) -> Array:
        """Which code each cell is: integers (b, t, h, w)."""
        return jnp.argmax(latents.astype(jnp.float32) @ rms(self.codes).T, axis=-1)

    def _nearest(self, x: Array) -> tuple[Array, Array]:
        x = rms(x)
        return x, rms(self.codes)[self.number(x)]


@dataclass(frozen=True)
class Noise:
    """Latents of unit mean square, to which training adds normal noise of a deviation drawn from [0, `most`] for each
    example, so that the decoder forgives what a denoiser leaves (RAE, Zheng et al. 2025)."""

    most: float = 0.8

    def width(self, channels: int) -> int:
        return channels

    def init(self, key: Key, channels: int) -> "Noisy":
        return Noisy(self)


class Noisy(Module):
    """See `Noise`."""

    config: Noise = static()

    def draw(self, x: Array, ids: UInt32[Array, "b"], key: Key) -> Drawn:
        k1, k2 = jax.random.split(key)
        deviation = self.config.most * random.uniform(k1, ids, (1,) * (x.ndim - 1))
        noise = random.normal(k2, ids, x.shape[1:])
        return Drawn((rms(x) + deviation * noise).astype(x.dtype), jnp.zeros(()), {})

    def settle(self, x: Array) -> Latents:
        return rms(x).astype(x.dtype)


def _through(x: Array, quantised: Array) -> Array:
    """`quantised`, with the gradient of `x` (the straight-through estimator)."""
    return x + jax.lax.stop_gradient(quantised - x)
