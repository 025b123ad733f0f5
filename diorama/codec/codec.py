"""A codec: `encode(media) -> latents`, `decode(latents) -> media`, with the statistics that make latents about zero
mean and unit variance in every channel, which the noise processes assume."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec.bottleneck import Drawn
from diorama.codec.token import TokenCodecConfig
from diorama.core.array import Array, Float, Key, Latents, Media, UInt32
from diorama.core.module import Module, static


class Autoencoder(Protocol):
    """What codec training optimises, a `Module`. `Codec` adds the latents' statistics."""

    def draw(self, media: Media, ids: UInt32[Array, "b"], key: Key) -> Drawn:
        """Latents as training sees them, with the bottleneck's noise and penalty."""
        ...

    def settle(self, media: Media) -> Latents:
        """Latents for use: without noise."""
        ...

    def decode(self, latents: Latents) -> Media: ...


class Factors(Protocol):
    """How media and latents of a codec are related in size."""

    @property
    def spatial(self) -> int:
        """Pixels along each side of a latent cell."""
        ...

    @property
    def temporal(self) -> int:
        """Frames a latent frame after the first."""
        ...

    @property
    def channels(self) -> int:
        """Numbers a latent cell."""
        ...


class CodecConfig(Factors, Protocol):
    """An architecture that can be trained: `ConvCodecConfig`, `TokenCodecConfig`, or another project's."""

    @property
    def media_channels(self) -> int:
        """Of the media (3 for RGB)."""
        ...

    def init(self, key: Key) -> Any:
        """An `Autoencoder`, untrained."""
        ...


class Codec(Module):
    """A trained autoencoder and the mean and deviation of its latents, a channel."""

    autoencoder: Any
    mean: Float[Array, "c"]
    deviation: Float[Array, "c"]
    config: CodecConfig = static()

    @staticmethod
    def blank(autoencoder: Any, config: CodecConfig) -> "Codec":
        """A codec whose statistics are not measured yet: mean 0, deviation 1."""
        return Codec(autoencoder, jnp.zeros(config.channels), jnp.ones(config.channels), config)

    def measured(self, latents: Iterable[np.ndarray]) -> "Codec":
        """This codec with the statistics of these batches of un-normalised latents (made by a `blank` codec)."""
        mean, deviation = moments(latents)
        return Codec(self.autoencoder, jnp.asarray(mean), jnp.asarray(deviation), self.config)

    def encode(self, media: Media) -> Latents:
        """Normalised latents, without noise. Edges are repeated to whole cells and 1 + k * temporal frames."""
        return self.normalise(self.autoencoder.settle(pad(media, self.config)))

    def decode(self, latents: Latents) -> Media:
        """Media in [-1, 1] (clipped), of 1 + (t - 1) * temporal frames."""
        return jnp.clip(self.autoencoder.decode(self.restore(latents)), -1, 1)

    def normalise(self, latents: Latents) -> Latents:
        """The autoencoder's latents with about zero mean and unit variance in every channel."""
        return (latents - self.mean) / self.deviation

    def restore(self, latents: Latents) -> Latents:
        """The inverse of `normalise`."""
        return latents * self.deviation + self.mean

    def latent_shape(self, t: int, h: int, w: int) -> tuple[int, int, int, int]:
        """The shape of the latents of media `(t, h, w)`."""
        return latent_shape(self.config, t, h, w)


def moments(batches: Iterable[np.ndarray]) -> tuple[Float[np.ndarray, "c"], Float[np.ndarray, "c"]]:
    """The mean and the deviation of every channel of batches (..., c), float32; the deviation is above 0."""
    n, total, squares = 0, 0.0, 0.0
    for batch in batches:
        flat = np.asarray(batch, np.float64).reshape(-1, batch.shape[-1])
        n, total, squares = n + len(flat), total + flat.sum(0), squares + (flat**2).sum(0)
    mean = total / n
    deviation = np.sqrt(np.maximum(squares / n - mean**2, 1e-12))
    return np.float32(mean), np.float32(deviation)  # type: ignore[return-value]


class PixelCodec(Module):
    """No codec at all: latents are the pixels, compression is 1."""

    config: "PixelCodecConfig" = static()

    def encode(self, media: Media) -> Latents:
        return media

    def decode(self, latents: Latents) -> Media:
        return jnp.clip(latents, -1, 1)

    def latent_shape(self, t: int, h: int, w: int) -> tuple[int, int, int, int]:
        return t, h, w, self.config.channels


@dataclass(frozen=True)
class PixelCodecConfig:
    """Diffusion in pixels, of `channels` (3 for RGB)."""

    channels: int = 3


def pad(media: Media, config: Factors) -> Media:
    """Repeat edges until the codec's factors divide the media."""
    _, t, h, w, _ = media.shape
    rest = ((-(t - 1)) % config.temporal, -h % config.spatial, -w % config.spatial)
    return jnp.pad(media, ((0, 0), *((0, r) for r in rest), (0, 0)), mode="edge") if any(rest) else media


def latent_shape(config: Factors, t: int, h: int, w: int) -> tuple[int, int, int, int]:
    """The shape `(t, h, w, c)` of the latents of media `(t, h, w)`; a line of tokens has one row.

    Raises `UserError` for pictures that a codec of one size does not take.
    """
    rows, columns = -(-h // config.spatial), -(-w // config.spatial)
    if isinstance(config, TokenCodecConfig):
        rows, columns = config.cells(h, w)
    return 1 + -(-(t - 1) // config.temporal), rows, columns, config.channels


def on_grid(config: Factors) -> bool:
    """Whether latents lie as the picture does, and so turn with it and have a spectrum; a line of tokens does not."""
    return not isinstance(config, TokenCodecConfig)


def compression(codec: Codec | PixelCodec, t: int, h: int, w: int) -> float:
    """How many times fewer numbers latents have than pixels (RGB counted as three)."""
    return 3 * t * h * w / int(np.prod(codec.latent_shape(t, h, w)))


@jax.jit
def encode(codec: Codec | PixelCodec, media: Media) -> Latents:
    """`codec.encode`, compiled once a shape."""
    return codec.encode(media)


@jax.jit
def decode(codec: Codec | PixelCodec, latents: Latents) -> Media:
    """`codec.decode`, compiled once a shape."""
    return codec.decode(latents)
