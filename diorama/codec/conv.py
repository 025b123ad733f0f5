"""A convolutional autoencoder on `(b, t, h, w, c)`, causal in time: the first frame is coded alone, so an image is a
video of one frame, and a clip of 1 + k * temporal frames becomes 1 + k latent ones.

Space and time are factorised (see `net/layers.py`); pixels enter by space-to-depth, as in DC-AE (Chen et al. 2024) and
LTX-Video, because full-resolution convolutions would take most of the time and learn little.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.net.layers import Linear, Norm, SpatialConv, TemporalConv, depth_to_space, space_to_depth


@dataclass(frozen=True)
class ConvCodecConfig:
    """Sizes of the autoencoder.

    Args:
        spatial: pixels along each side of a latent cell: 2, 4, 8, ...
        temporal: frames a latent frame after the first: 1, 2 or 4.
        channels: numbers a latent cell.
        patch: how much of `spatial` is done by space-to-depth at the entrance.
        widths: channels of each level, from `patch` down to `spatial` (so log2(spatial / patch) + 1 of them).
        depth: residual blocks a level.
        media_channels: of the media (3 for RGB).
    """

    spatial: int = 4
    temporal: int = 2
    channels: int = 4
    patch: int = 2
    widths: tuple[int, ...] = (32, 64)
    depth: int = 1
    media_channels: int = 3

    def __post_init__(self) -> None:
        if any(n < 1 or n & (n - 1) for n in (self.spatial, self.temporal, self.patch)):
            raise UserError("spatial, temporal and patch are powers of two")
        if self.spatial < self.patch or len(self.widths) != int(math.log2(self.spatial // self.patch)) + 1:
            levels = int(math.log2(max(self.spatial // self.patch, 1))) + 1
            raise UserError(f"spatial={self.spatial} with patch={self.patch} takes {levels} widths")

    def init(self, key: Key) -> "Autoencoder":
        k1, k2 = jax.random.split(key)
        return Autoencoder(Encoder.init(k1, self), Decoder.init(k2, self))


class Block(Module):
    """Two 3 x 3 convolutions and one causal along time, each branch starting at zero."""

    norm1: Norm
    conv1: SpatialConv
    conv2: SpatialConv
    norm2: Norm
    time: TemporalConv

    @staticmethod
    def init(key: Key, width: int) -> "Block":
        k1, k2, k3 = jax.random.split(key, 3)
        return Block(
            Norm.init(width),
            SpatialConv.init(k1, width, width),
            SpatialConv.init(k2, width, width, scale=0.0),
            Norm.init(width),
            TemporalConv.init(k3, width, width, scale=0.0),
        )

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        x = x + self.conv2(jax.nn.silu(self.conv1(jax.nn.silu(self.norm1(x)))))
        return x + self.time(jax.nn.silu(self.norm2(x)))


class Halve(Module):
    """Half the frames after the first: a causal convolution read at every other frame, beside the mean of the pair."""

    time: TemporalConv

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h w c"]:
        pairs = (x[:, 1::2] + x[:, 2::2]) / 2
        return jnp.concatenate([x[:, :1], pairs], axis=1) + self.time(x)[:, ::2]


class Double(Module):
    """Twice the frames after the first; the first latent frame gives one frame."""

    pair: Linear

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h w c"]:
        b, t, h, w, c = x.shape
        y = x[..., None, :] + self.pair(x).reshape(b, t, h, w, 2, c)
        return y.transpose(0, 1, 4, 2, 3, 5).reshape(b, 2 * t, h, w, c)[:, 1:]


class Encoder(Module):
    enter: SpatialConv
    levels: list[list[Block]]
    down: list[Linear]
    halve: list[Halve]
    norm: Norm
    leave: Linear
    patch: int = static()

    @staticmethod
    def init(key: Key, config: ConvCodecConfig) -> "Encoder":
        keys = iter(jax.random.split(key, 64))
        widths, times = config.widths, int(math.log2(config.temporal))
        return Encoder(
            SpatialConv.init(next(keys), config.patch**2 * config.media_channels, widths[0]),
            [[Block.init(next(keys), w) for _ in range(config.depth)] for w in widths],
            [Linear.init(next(keys), 4 * a, b) for a, b in pairwise(widths)],
            [Halve(TemporalConv.init(next(keys), widths[-1], widths[-1])) for _ in range(times)],
            Norm.init(widths[-1]),
            Linear.init(next(keys), widths[-1], 2 * config.channels),
            config.patch,
        )

    def __call__(self, media: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 c2"]:
        """Mean and log-variance of the posterior, one beside the other in channels."""
        x = self.enter(space_to_depth(media, self.patch))
        for i, blocks in enumerate(self.levels):
            if i:
                x = self.down[i - 1](space_to_depth(x, 2))
            for block in blocks:
                x = block(x)
        for halve in self.halve:
            x = halve(x)
        return self.leave(self.norm(x))


class Decoder(Module):
    enter: Linear
    double: list[Double]
    levels: list[list[Block]]
    up: list[Linear]
    norm: Norm
    leave: SpatialConv
    patch: int = static()

    @staticmethod
    def init(key: Key, config: ConvCodecConfig) -> "Decoder":
        keys = iter(jax.random.split(key, 64))
        widths, times = config.widths[::-1], int(math.log2(config.temporal))
        return Decoder(
            Linear.init(next(keys), config.channels, widths[0]),
            [Double(Linear.init(next(keys), widths[0], 2 * widths[0])) for _ in range(times)],
            [[Block.init(next(keys), w) for _ in range(config.depth)] for w in widths],
            [Linear.init(next(keys), a, 4 * b) for a, b in pairwise(widths)],
            Norm.init(widths[-1]),
            SpatialConv.init(next(keys), widths[-1], config.patch**2 * config.media_channels, scale=0.1),
            config.patch,
        )

    def __call__(self, latents: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 c2"]:
        x = self.enter(latents)
        for double in self.double:
            x = double(x)
        for i, blocks in enumerate(self.levels):
            if i:
                x = depth_to_space(self.up[i - 1](x), 2)
            for block in blocks:
                x = block(x)
        return depth_to_space(self.leave(jax.nn.silu(self.norm(x))), self.patch)


class Autoencoder(Module):
    """What codec training optimises; `Codec` adds the latents' statistics."""

    encoder: Encoder
    decoder: Decoder
