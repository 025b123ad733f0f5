"""An autoencoder to a line of tokens instead of a grid (TiTok, Yu et al. 2024): learned tokens beside the patches of a
picture take up what is in it, and patches that know nothing but their place read it from them again.

What a token stands for is learned, so few can be enough, and their number need not grow with the picture's. With the
tail of the line dropped at random in training (nested dropout, Rippel et al. 2014; One-D-Piece, Miwa et al. 2025;
FlexTok, Bachmann et al. 2025) the first tokens say what matters most, and the line may be cut anywhere. With patches
hidden from the encoder its tokens must say more than they see (MAETok, Chen et al. 2025).

Latents are `(b, t, 1, n, c)`. Time is as in `conv.py`: causal, the first frame coded alone, and a clip coded in chunks
is the clip coded whole. Attention stays within a frame, convolutions of three frames look back.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from diorama.codec.blocks import HEAD, Double, Halve
from diorama.codec.bottleneck import FSQ, KL, VQ, Bottleneck, Drawn, Noise
from diorama.codec.front import Patch
from diorama.core import random
from diorama.core.array import Array, Bool, Float, Key, Latents, Media, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module, scan, stack, static
from diorama.net.attention import SelfAttention
from diorama.net.layers import Linear, Norm, TemporalConv
from diorama.net.places import grid_positions

Past = tuple[list[Array], Any]  # what a chunk leaves for the next one: of every change of rate, of the stacked blocks


@dataclass(frozen=True)
class TokenCodecConfig:
    """Sizes of the autoencoder.

    Args:
        size: height and width of the picture in pixels, multiples of `spatial`. A line of tokens does not tell them, so
            they are part of the codec: media of another size are refused.
        spatial: pixels along each side of a patch, a power of two.
        temporal: frames a latent frame after the first: 1, 2, 4 or 8.
        channels: numbers a token.
        tokens: of each latent frame.
        least: the fewest of them that training keeps, any number from there to all being as likely; None keeps all, and
            then only whole lines can be decoded.
        masked: the largest share of patches that training hides from the encoder; the share is uniform from 0.
        width, depth: channels, a multiple of 32, and transformer blocks, of encoder and of decoder.
        bottleneck: what latents are. Its penalty counts every token, dropped or not, for at use all are there.
        media_channels: of the media (3 for RGB).

    Raises `UserError` for sizes that do not fit.
    """

    size: tuple[int, int] = (32, 32)
    spatial: int = 4
    temporal: int = 2
    channels: int = 8
    tokens: int = 16
    least: int | None = None
    masked: float = 0.0
    width: int = 128
    depth: int = 4
    bottleneck: KL | FSQ | VQ | Noise = field(default_factory=KL)
    media_channels: int = 3

    def __post_init__(self) -> None:
        if any(n < 1 or n & (n - 1) for n in (self.spatial, self.temporal)):
            raise UserError("spatial and temporal are powers of two")
        if min(self.size) < 1 or any(side % self.spatial for side in self.size):
            raise UserError(f"size={self.size}: patches of {self.spatial} pixels do not divide it")
        if min(self.channels, self.media_channels) < 1:
            raise UserError("channels and media_channels are at least 1")
        if self.tokens < 1 or (self.least is not None and not 1 <= self.least < self.tokens):
            raise UserError(f"tokens={self.tokens}, least={self.least}: keep at least 1, and None keeps all")
        if not 0 <= self.masked < 1:
            raise UserError(f"masked={self.masked}: a share of patches is from 0 to below 1")
        if self.width < 1 or self.width % HEAD:
            raise UserError(f"width={self.width}: give a multiple of {HEAD}")
        if self.depth < 1:
            raise UserError(f"depth={self.depth}: give at least 1 block")

    @property
    def patches(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.size[0] // self.spatial, self.size[1] // self.spatial

    def cells(self, h: int, w: int) -> tuple[int, int]:
        """The latent cells `(1, tokens)` of pictures `(h, w)`. Raises `UserError` where they are not the codec's, edges
        filled up to whole patches."""
        if (-(-h // self.spatial), -(-w // self.spatial)) != self.patches:
            raise UserError(f"this codec takes pictures of {self.size[0]} x {self.size[1]}, not {h} x {w}: resize them")
        return 1, self.tokens

    def init(self, key: Key) -> "TokenAutoencoder":
        k1, k2, k3 = jax.random.split(key, 3)
        bottleneck = self.bottleneck.init(k3, self.channels)
        return TokenAutoencoder(Encoder.init(k1, self), Decoder.init(k2, self), bottleneck, self)


class Block(Module):
    """A transformer block within each frame and a causal convolution along time, each branch starting at zero."""

    norm1: Norm
    attention: SelfAttention
    norm2: Norm
    hidden: Linear
    out: Linear
    norm3: Norm
    time: TemporalConv

    @staticmethod
    def init(key: Key, width: int) -> "Block":
        k = jax.random.split(key, 4)
        return Block(
            Norm.init(width),
            SelfAttention.init(k[0], width, width // HEAD),
            Norm.init(width),
            Linear.init(k[1], width, 4 * width),
            Linear.init(k[2], 4 * width, width, scale=0.0),
            Norm.init(width),
            TemporalConv.init(k[3], width, width, scale=0.0),
        )

    def chunk(self, x: Float[Array, "b t 1 n d"], positions: Array, past: Array | None) -> tuple[Array, Array]:
        """The next frames, and what the ones after them need."""
        frames = self.norm1(x).reshape(-1, *x.shape[-2:])
        x = x + self.attention(frames, positions).reshape(x.shape)
        x = x + self.out(jax.nn.silu(self.hidden(self.norm2(x))))
        y, past = self.time.chunk(jax.nn.silu(self.norm3(x)), past)
        return x + y, past


class Trunk(Module):
    """Patches and tokens in one row through the blocks. What is known of only one of the two enters as zeros for the
    other, which is then its row of the table alone: a query token, or the mask token of a place."""

    table: Float[Array, "n d"]
    blocks: Block
    config: TokenCodecConfig = static()

    @staticmethod
    def init(key: Key, config: TokenCodecConfig) -> "Trunk":
        k1, k2 = jax.random.split(key)
        rows = math.prod(config.patches) + config.tokens
        table = jax.random.normal(k1, (rows, config.width))
        return Trunk(table, stack(lambda k: Block.init(k, config.width), k2, config.depth), config)

    def chunk(self, x: Float[Array, "b t 1 n d"], past: Array | None) -> tuple[Array, Array]:
        """Patches lie on the grid, and tokens on the axis that is left, for no frame sees another here."""
        line = grid_positions(self.config.tokens, 1, 1).at[:, 0].add(1)
        positions = jnp.concatenate([grid_positions(1, *self.config.patches), line])
        left: Array
        x, left = scan((self.blocks, past), x + self.table, lambda pair, x: pair[0].chunk(x, positions, pair[1]))
        return x, left


class Encoder(Module):
    enter: Linear
    halve: list[Halve]
    trunk: Trunk
    norm: Norm
    leave: Linear
    config: TokenCodecConfig = static()

    @staticmethod
    def init(key: Key, config: TokenCodecConfig) -> "Encoder":
        k, d = jax.random.split(key, 4), config.width
        return Encoder(
            Linear.init(k[0], config.spatial**2 * config.media_channels, d),
            [Halve(TemporalConv.init(key, d, d)) for key in jax.random.split(k[1], int(math.log2(config.temporal)))],
            Trunk.init(k[2], config),
            Norm.init(d),
            Linear.init(k[3], d, config.bottleneck.width(config.channels)),
            config,
        )

    def chunk(
        self, media: Media, past: Past | None, seen: Bool[Array, "b t2 1 n 1"] | None = None
    ) -> tuple[Float[Array, "b t2 1 n c2"], Past]:
        """What the bottleneck takes, of a clip's first 1 + k * temporal frames (`past` None), or its next k * temporal.
        `seen`: the patches that are not hidden."""
        _, tokens = self.config.cells(*media.shape[2:4])
        x, left = self.enter(Patch(self.config.spatial).fold(media)), []
        for i, halve in enumerate(self.halve):
            x, after = halve.chunk(x, past[0][i] if past else None)
            left.append(after)
        x = x.reshape(*x.shape[:2], 1, -1, x.shape[-1])
        x = _padded(x if seen is None else jnp.where(seen, x, 0), 0, tokens)
        x, blocks = self.trunk.chunk(x, past[1] if past else None)
        return self.leave(self.norm(x[..., -tokens:, :])), (left, blocks)


class Decoder(Module):
    """`null` stands for a token that was dropped or cut off; there is none where training keeps all."""

    null: Float[Array, "c"] | None
    enter: Linear
    trunk: Trunk
    double: list[Double]
    norm: Norm
    leave: Linear
    config: TokenCodecConfig = static()

    @staticmethod
    def init(key: Key, config: TokenCodecConfig) -> "Decoder":
        k, d = jax.random.split(key, 4), config.width
        return Decoder(
            None if config.least is None else jnp.zeros(config.channels),
            Linear.init(k[0], config.channels, d),
            Trunk.init(k[1], config),
            [Double(Linear.init(key, d, 2 * d)) for key in jax.random.split(k[2], int(math.log2(config.temporal)))],
            Norm.init(d),
            Linear.init(k[3], d, config.spatial**2 * config.media_channels, scale=0.1),
            config,
        )

    def chunk(self, latents: Latents, past: Past | None) -> tuple[Media, Past]:
        """A clip's first latent frames (`past` None), or its next ones."""
        rows, columns = self.config.patches
        x = _padded(self.enter(self._whole(latents)), rows * columns, 0)
        x, blocks = self.trunk.chunk(x, past[1] if past else None)
        x = x[..., : rows * columns, :].reshape(*x.shape[:2], rows, columns, x.shape[-1])
        for double in self.double:
            x = double(x, first=past is None)
        return Patch(self.config.spatial).unfold(self.leave(self.norm(x))), ([], blocks)

    def _whole(self, latents: Latents) -> Latents:
        """Lines that were cut, filled up. Raises `UserError` for what is no line, too long, or too short."""
        rows, n = latents.shape[2:4]
        if rows != 1 or not 1 <= n <= self.config.tokens:
            raise UserError(f"latents of {rows} x {n} cells: this codec takes lines of {self.config.tokens} tokens")
        if n == self.config.tokens:
            return latents
        if self.null is None:
            raise UserError(f"{n} of {self.config.tokens} tokens: this codec needs all, train one with `least` set")
        tail = jnp.broadcast_to(self.null, (*latents.shape[:3], self.config.tokens - n, latents.shape[-1]))
        return jnp.concatenate([latents, tail.astype(latents.dtype)], axis=3)


class TokenAutoencoder(Module):
    """Encoder, bottleneck and decoder."""

    encoder: Encoder
    decoder: Decoder
    bottleneck: Bottleneck
    config: TokenCodecConfig = static()

    def draw(self, media: Media, ids: UInt32[Array, "b"], key: Key) -> Drawn:
        """Latents as training sees them: patches hidden from the encoder, the bottleneck's noise and penalty, and the
        tail of each example's lines null."""
        k1, k2, k3, k4 = jax.random.split(key, 4)
        seen = None
        if self.config.masked:
            frames, (rows, columns) = 1 + (media.shape[1] - 1) // self.config.temporal, self.config.patches
            share = self.config.masked * random.uniform(k1, ids, (1, 1, 1, 1))
            seen = random.uniform(k2, ids, (frames, 1, rows * columns, 1)) >= share
        drawn = self.bottleneck.draw(self.encoder.chunk(media, None, seen)[0], ids, k3)
        least, null = self.config.least, self.decoder.null
        if least is None or null is None:
            return drawn
        kept = least + jnp.floor((self.config.tokens - least + 1) * random.uniform(k4, ids, (1, 1, 1, 1)))
        keep = jnp.arange(self.config.tokens)[:, None] < kept
        latents = jnp.where(keep, drawn.latents, null.astype(drawn.latents.dtype))
        return Drawn(latents, drawn.penalty, drawn.metrics)

    def settle(self, media: Media) -> Latents:
        """Latents for use: all tokens, without noise. `shortened` cuts them."""
        return self.bottleneck.settle(self.encoder.chunk(media, None)[0])

    def decode(self, latents: Latents) -> Media:
        """Media of whole lines or, where training dropped tokens, of their first tokens alone."""
        return self.decoder.chunk(latents, None)[0]


def shortened(latents: Latents, tokens: int) -> Latents:
    """The first `tokens` of every line: what a token codec decodes to something coarser.

    Raises `UserError` unless there are so many.
    """
    if not 1 <= tokens <= latents.shape[3]:
        raise UserError(f"lines of {latents.shape[3]} tokens cannot be cut to {tokens}")
    return latents[..., :tokens, :]


def _padded(x: Float[Array, "b t 1 n d"], before: int, after: int) -> Float[Array, "b t 1 n d"]:
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, after), (0, 0)))
