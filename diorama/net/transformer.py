"""A space-time transformer on latents (Peebles & Xie 2023, DiT): the denoiser that scales.

Patches become tokens with rotary positions over (t, y, x); each frame's noise level modulates its own tokens (adaptive
layer norm, started at zero); text comes in by cross-attention. `mixing` adds a depth-wise 3 x 3 convolution to every
block, and `previous` the frame before to every token: with both, small transformers learn motion in minutes.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key
from diorama.core.errors import UserError
from diorama.core.module import Module, scan, stack, static
from diorama.net.attention import CrossAttention, SelfAttention, check_heads, frame_mask, grid_positions
from diorama.net.condition import Context
from diorama.net.layers import Linear, NoiseLevel, Norm, depth_to_space, gate, modulate, rms, space_to_depth
from diorama.net.output import Output


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a transformer.

    Args:
        width, depth, heads: of the blocks; `width` is also that of the conditions.
        patch: latent cells along each side of a token.
        causal: no frame sees a later one.
        mixing: a depth-wise 3 x 3 convolution over each frame's tokens in every block.
        previous: the tokens of the frame before are added to each frame's.
        remat: what the backward pass keeps of a block: "none" (all), "dots", "full" (nothing).
    """

    width: int = 128
    depth: int = 6
    heads: int = 4
    patch: int = 2
    causal: bool = False
    mixing: bool = True
    previous: bool = True
    remat: Literal["none", "dots", "full"] = "none"

    def __post_init__(self) -> None:
        check_heads(self.width, self.heads)

    def init(self, key: Key, channels: int, aligned: int = 0) -> "Transformer":
        """A network for latents of `channels`, with `aligned` channels of conditions on their grid."""
        k = jax.random.split(key, 7)
        cells = self.patch**2
        return Transformer(
            enter=Linear.init(k[0], cells * (channels + aligned), self.width),
            previous=Linear.init(k[1], self.width, self.width, scale=0.5) if self.previous else None,
            level=NoiseLevel.init(k[2], self.width),
            context=Linear.init(k[3], self.width, self.width),
            blocks=stack(lambda key: Block.init(key, self), k[4], self.depth),
            film=Linear.init(k[5], self.width, 2 * self.width, scale=0.0),
            leave=Linear.init(k[6], self.width, cells * channels, scale=0.0),
            config=self,
        )


class Block(Module):
    """Self-attention, cross-attention and a perceptron, the first and last modulated by the frame's embedding."""

    film: Linear
    attention: SelfAttention
    norm: Norm
    cross: CrossAttention
    mixing: Float[Array, "3 3 1 d"] | None
    up: Linear
    down: Linear

    @staticmethod
    def init(key: Key, config: TransformerConfig) -> "Block":
        k, d = jax.random.split(key, 6), config.width
        return Block(
            Linear.init(k[0], d, 6 * d, scale=0.0),
            SelfAttention.init(k[1], d, config.heads),
            Norm.init(d),
            CrossAttention.init(k[2], d, d, config.heads),
            jax.random.normal(k[3], (3, 3, 1, d)) / 9 if config.mixing else None,
            Linear.init(k[4], d, 4 * d),
            Linear.init(k[5], 4 * d, d, scale=0.0),
        )

    def __call__(
        self, x: Array, embedding: Array, context: Context, positions: Array, causal: bool, alone: Array | None
    ) -> Array:
        """Args: `x (b, t, h, w, d)` tokens on their grid, `embedding (b, t, d)`, `alone (b,)` as in attention."""
        b, t, h, w, d = x.shape
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(self.film(embedding), 6, axis=-1)

        def flat(y: Array) -> Array:
            return y.reshape(b, t * h * w, d)

        y = modulate(rms(x).astype(x.dtype), scale1, shift1)
        y = self.attention(flat(y), positions, frame_mask(positions, causal), alone).reshape(x.shape)
        x = x + gate(y, gate1)  # the branches' last layers start at zero, so every block starts as the identity
        if context.tokens is not None and context.mask is not None:
            x = x + self.cross(self.norm(flat(x)), context.tokens, context.mask).reshape(x.shape)
        y = modulate(rms(x).astype(x.dtype), scale2, shift2)
        if self.mixing is not None:
            y = y + _depthwise(y, self.mixing)
        return x + gate(self.down(jax.nn.gelu(self.up(y))), gate2)


def _depthwise(x: Float[Array, "b t h w d"], weight: Float[Array, "3 3 1 d"]) -> Float[Array, "b t h w d"]:
    """Nine shifted products: XLA's grouped convolution is slow on CPU, and this fuses everywhere."""
    h, w = x.shape[2:4]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(  # type: ignore[return-value]
        padded[:, :, i : i + h, j : j + w] * weight[i, j, 0] for i in range(3) for j in range(3)
    )


class Transformer(Module):
    """`(x, level, context) -> Output`; made by `TransformerConfig.init`."""

    enter: Linear
    previous: Linear | None
    level: NoiseLevel
    context: Linear
    blocks: Block
    film: Linear
    leave: Linear
    config: TransformerConfig = static()

    @property
    def attentions(self) -> int:
        """How many layers of self-attention there are."""
        return self.config.depth

    def __call__(self, x: Float[Array, "b t h w c"], level: Float[Array, "b t"], context: Context) -> Output:
        """Args: `x` noisy latents of about unit variance; `level` in [0, 1], each frame's own noise level."""
        config = self.config
        if x.shape[2] % config.patch or x.shape[3] % config.patch:
            raise UserError(
                f"latents of {x.shape[2]}x{x.shape[3]} do not divide into tokens of {config.patch}x{config.patch}: "
                "set net.patch=1, or give clips sides that do"
            )
        embedding = self.level(level)
        if context.broadcast is not None:
            embedding = embedding + self.context(context.broadcast)[:, None]
        embedding = jax.nn.silu(embedding)
        if context.aligned is not None:
            x = jnp.concatenate([x, context.aligned], axis=-1)
        x = self.enter(space_to_depth(x, config.patch))
        if self.previous is not None:
            x = x + self.previous(jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0)))[:, :-1])
        positions = grid_positions(*x.shape[1:4])

        def call(layer: tuple[Block, Array | None], x: Array) -> tuple[Array, Array]:
            block, alone = layer
            x = block(x, embedding, context, positions, config.causal, alone)
            return x, x

        alone = None if context.alone is None else context.alone.T
        x, features = scan((self.blocks, alone), x, call, config.remat)
        scale, shift = jnp.split(self.film(embedding), 2, axis=-1)
        x = self.leave(modulate(rms(x).astype(x.dtype), scale, shift))
        return Output(depth_to_space(x, config.patch), {"blocks": features})
