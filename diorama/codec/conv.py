"""A convolutional autoencoder on `(b, t, h, w, c)`, causal in time: the first frame is coded alone, so an image is a
video of one frame, and a clip of 1 + k * temporal frames becomes 1 + k latent ones.

Space and time are factorised (see `net/layers.py`). Attention, if any, stays within a frame: all that looks back in
time are convolutions of three frames, so that a clip coded in chunks is the clip coded whole.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, repeat

import jax

from diorama.codec.blocks import HEAD, Attend, Block, Double, Down, Halve, Up
from diorama.codec.bottleneck import FSQ, KL, VQ, Bottleneck, Drawn, Noise
from diorama.codec.front import Haar, Patch
from diorama.core.array import Array, Float, Key, Latents, Media, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.net.layers import Linear, Norm, SpatialConv, TemporalConv

Past = Sequence[Array]  # what a chunk leaves for the next one


@dataclass(frozen=True)
class ConvCodecConfig:
    """Sizes of the autoencoder.

    Args:
        spatial: pixels along each side of a latent cell: 2, 4, 8, 16 or 32.
        temporal: frames a latent frame after the first: 1, 2, 4 or 8.
        channels: numbers a latent cell.
        front: how much of `spatial` is done at the entrance, and how.
        widths: channels of each level, from the front down to `spatial` (so log2(spatial / front.size) + 1 of them).
        depth: residual blocks a level.
        shortcuts: space-to-channel shortcuts wherever the size changes (DC-AE); worth it at high compression.
        middle: transformer blocks on the coarsest grid, on each side.
        bottleneck: what latents are.
        media_channels: of the media (3 for RGB).
    """

    spatial: int = 4
    temporal: int = 2
    channels: int = 4
    front: Patch | Haar = field(default_factory=Patch)
    widths: tuple[int, ...] = (32, 64)
    depth: int = 1
    shortcuts: bool = False
    middle: int = 0
    bottleneck: KL | FSQ | VQ | Noise = field(default_factory=KL)
    media_channels: int = 3

    def __post_init__(self) -> None:
        if any(n < 1 or n & (n - 1) for n in (self.spatial, self.temporal)):
            raise UserError("spatial and temporal are powers of two")
        if min(self.channels, self.media_channels, self.depth, *self.widths) < 1 or self.middle < 0:
            raise UserError("channels, media_channels, depth and widths are at least 1, and middle at least 0")
        levels = int(math.log2(max(self.spatial // self.front.size, 1))) + 1
        if self.spatial < self.front.size or len(self.widths) != levels:
            raise UserError(f"spatial={self.spatial} with a front of {self.front.size} takes {levels} widths")
        if self.shortcuts and any(4 * a % b or 4 * b % a for a, b in pairwise(self.widths)):
            raise UserError(f"widths={self.widths}: with shortcuts four times each one divides by its neighbours")
        if self.middle and self.widths[-1] % HEAD:
            raise UserError(f"widths={self.widths}: with a middle the last one is a multiple of {HEAD}")

    def init(self, key: Key) -> "ConvAutoencoder":
        k1, k2 = jax.random.split(key)
        bottleneck = self.bottleneck.init(jax.random.fold_in(key, 2), self.channels)
        return ConvAutoencoder(Encoder.init(k1, self), Decoder.init(k2, self), bottleneck)


class Encoder(Module):
    enter: SpatialConv
    levels: list[list[Block]]
    down: list[Down]
    halve: list[Halve]
    middle: list[Attend]
    norm: Norm
    leave: Linear
    front: Patch | Haar = static()

    @staticmethod
    def init(key: Key, config: ConvCodecConfig) -> "Encoder":
        keys = iter(jax.random.split(key, 64 + config.middle + len(config.widths) * config.depth))
        widths, times = config.widths, int(math.log2(config.temporal))
        return Encoder(
            SpatialConv.init(next(keys), config.front.size**2 * config.media_channels, widths[0]),
            [[Block.init(next(keys), w) for _ in range(config.depth)] for w in widths],
            [Down(Linear.init(next(keys), 4 * a, b), config.shortcuts) for a, b in pairwise(widths)],
            [Halve(TemporalConv.init(next(keys), widths[-1], widths[-1])) for _ in range(times)],
            [Attend.init(next(keys), widths[-1]) for _ in range(config.middle)],
            Norm.init(widths[-1]),
            Linear.init(next(keys), widths[-1], config.bottleneck.width(config.channels)),
            config.front,
        )

    def __call__(self, media: Media) -> Float[Array, "b t2 h2 w2 c2"]:
        """What the bottleneck takes."""
        return self.chunk(media, None)[0]

    def chunk(self, media: Media, past: Past | None) -> tuple[Float[Array, "b t2 h2 w2 c2"], Past]:
        """A clip's first 1 + k * temporal frames (`past` None), or its next k * temporal."""
        before, left = iter(past) if past else repeat(None), []
        x = self.enter(self.front.fold(media))
        for i, blocks in enumerate(self.levels):
            if i:
                x = self.down[i - 1](x)
            for block in blocks:
                x, seen = block.chunk(x, next(before))
                left.append(seen)
        for halve in self.halve:
            x, seen = halve.chunk(x, next(before))
            left.append(seen)
        for attend in self.middle:
            x = attend(x)
        return self.leave(self.norm(x)), left


class Decoder(Module):
    enter: Linear
    middle: list[Attend]
    double: list[Double]
    levels: list[list[Block]]
    up: list[Up]
    norm: Norm
    leave: SpatialConv
    front: Patch | Haar = static()

    @staticmethod
    def init(key: Key, config: ConvCodecConfig) -> "Decoder":
        keys = iter(jax.random.split(key, 64 + config.middle + len(config.widths) * config.depth))
        widths, times = config.widths[::-1], int(math.log2(config.temporal))
        return Decoder(
            Linear.init(next(keys), config.channels, widths[0]),
            [Attend.init(next(keys), widths[0]) for _ in range(config.middle)],
            [Double(Linear.init(next(keys), widths[0], 2 * widths[0])) for _ in range(times)],
            [[Block.init(next(keys), w) for _ in range(config.depth)] for w in widths],
            [Up(Linear.init(next(keys), a, 4 * b), config.shortcuts) for a, b in pairwise(widths)],
            Norm.init(widths[-1]),
            SpatialConv.init(next(keys), widths[-1], config.front.size**2 * config.media_channels, scale=0.1),
            config.front,
        )

    def __call__(self, latents: Latents) -> Media:
        return self.chunk(latents, None)[0]

    def chunk(self, latents: Latents, past: Past | None) -> tuple[Media, Past]:
        """A clip's first latent frames (`past` None), or its next ones."""
        before, left = iter(past) if past else repeat(None), []
        x = self.enter(latents)
        for attend in self.middle:
            x = attend(x)
        for double in self.double:
            x = double(x, first=past is None)
        for i, blocks in enumerate(self.levels):
            if i:
                x = self.up[i - 1](x)
            for block in blocks:
                x, seen = block.chunk(x, next(before))
                left.append(seen)
        return self.front.unfold(self.leave(jax.nn.silu(self.norm(x)))), left


class ConvAutoencoder(Module):
    """Encoder, bottleneck and decoder."""

    encoder: Encoder
    decoder: Decoder
    bottleneck: Bottleneck

    def draw(self, media: Media, ids: UInt32[Array, "b"], key: Key) -> Drawn:
        """Latents as training sees them, with the bottleneck's noise and penalty."""
        return self.bottleneck.draw(self.encoder(media), ids, key)

    def settle(self, media: Media) -> Latents:
        """Latents for use: without noise."""
        return self.bottleneck.settle(self.encoder(media))

    def decode(self, latents: Latents) -> Media:
        return self.decoder(latents)
