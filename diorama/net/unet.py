"""A small U-Net on `(b, t, h, w, c)`: convolutions factorised in space and time, attention at the coarsest level.

The denoiser for few cores: on two of them many steps of a small convolutional net beat few steps of a transformer.
Ho et al. 2022 (video diffusion models) for the factorisation, Karras et al. 2022 for the shape of a block.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.net.attention import CrossAttention, SelfAttention, check_heads, frame_mask, grid_positions
from diorama.net.condition import Context
from diorama.net.layers import Linear, NoiseLevel, Norm, SpatialConv, TemporalConv, modulate
from diorama.net.output import Output


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a U-Net.

    Args:
        widths: channels of each level; height and width are halved between levels.
        depth: residual blocks a level, on the way down and again on the way up.
        heads: of the attention at the coarsest level.
        width: of the embedding of noise level and conditions.
        causal: no frame sees a later one.
    """

    widths: tuple[int, ...] = (64, 128)
    depth: int = 1
    heads: int = 4
    width: int = 128
    causal: bool = False

    def __post_init__(self) -> None:
        check_heads(self.widths[-1], self.heads)

    def init(self, key: Key, channels: int, aligned: int = 0) -> "UNet":
        """A network for latents of `channels`, with `aligned` channels of conditions on their grid."""
        keys = iter(jax.random.split(key, 8 + 4 * self.depth * len(self.widths)))
        down, up, below = [], [], self.widths[0]
        for width in self.widths:
            down.append([Block.init(next(keys), below if i == 0 else width, width, self) for i in range(self.depth)])
            below = width
        for above, width in reversed(list(zip((self.widths[0], *self.widths[:-1]), self.widths, strict=True))):
            up.append(
                [
                    Block.init(next(keys), 2 * width, above if i == self.depth - 1 else width, self)
                    for i in range(self.depth)
                ]
            )
        return UNet(
            enter=SpatialConv.init(next(keys), channels + aligned + 3, self.widths[0]),
            level=NoiseLevel.init(next(keys), self.width),
            context=Linear.init(next(keys), self.width, self.width),
            down=down,
            middle=Middle.init(next(keys), below, self),
            up=up,
            norm=Norm.init(self.widths[0]),
            leave=SpatialConv.init(next(keys), self.widths[0], channels, scale=0.0),
        )


class Block(Module):
    """Two 3 x 3 convolutions; between them one along time, and the embedding as scale and shift."""

    norm1: Norm
    conv1: SpatialConv
    film: Linear
    conv2: SpatialConv
    norm2: Norm
    time: TemporalConv
    skip: Linear | None

    @staticmethod
    def init(key: Key, inputs: int, outputs: int, config: UNetConfig) -> "Block":
        k1, k2, k3, k4, k5 = jax.random.split(key, 5)
        return Block(
            Norm.init(inputs),
            SpatialConv.init(k1, inputs, outputs),
            Linear.init(k2, config.width, 2 * outputs, scale=0.1),
            SpatialConv.init(k3, outputs, outputs, scale=0.0),
            Norm.init(outputs),
            TemporalConv.init(k4, outputs, outputs, config.causal, scale=0.0),
            Linear.init(k5, inputs, outputs) if inputs != outputs else None,
        )

    def __call__(self, x: Float[Array, "b t h w i"], embedding: Float[Array, "b t d"]) -> Float[Array, "b t h w o"]:
        scale, shift = jnp.split(self.film(embedding), 2, axis=-1)
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        y = y + self.time(jax.nn.silu(self.norm2(y)))  # before conv2, which brings to one place what has moved
        y = self.conv2(jax.nn.silu(modulate(y, scale, shift)))
        return (x if self.skip is None else self.skip(x)) + y


class Middle(Module):
    """Attention over all cells of all frames, and to the tokens of the conditions."""

    norm1: Norm
    attention: SelfAttention
    norm2: Norm
    cross: CrossAttention
    causal: bool = static()

    @staticmethod
    def init(key: Key, width: int, config: UNetConfig) -> "Middle":
        k1, k2 = jax.random.split(key)
        return Middle(
            Norm.init(width),
            SelfAttention.init(k1, width, config.heads),
            Norm.init(width),
            CrossAttention.init(k2, width, config.width, config.heads),
            config.causal,
        )

    def __call__(self, x: Float[Array, "b t h w d"], context: Context) -> Float[Array, "b t h w d"]:
        b, t, h, w, d = x.shape
        positions = grid_positions(t, h, w)
        y = x.reshape(b, t * h * w, d)
        alone = None if context.alone is None else context.alone[:, 0]
        y = y + self.attention(self.norm1(y), positions, frame_mask(positions, self.causal), alone)
        if context.tokens is not None and context.mask is not None:
            y = y + self.cross(self.norm2(y), context.tokens, context.mask)
        return y.reshape(x.shape)


class UNet(Module):
    """`(x, level, context) -> Output`; made by `UNetConfig.init`."""

    enter: SpatialConv
    level: NoiseLevel
    context: Linear
    down: list[list[Block]]
    middle: Middle
    up: list[list[Block]]
    norm: Norm
    leave: SpatialConv

    @property
    def attentions(self) -> int:
        """How many layers of self-attention there are."""
        return 1

    def __call__(self, x: Float[Array, "b t h w c"], level: Float[Array, "b t"], context: Context) -> Output:
        """Args: `x` noisy latents of about unit variance; `level` in [0, 1], each frame's own noise level."""
        cell = 2 ** (len(self.down) - 1)
        if x.shape[2] % cell or x.shape[3] % cell:
            mend = f"give net.widths fewer levels, or clips sides that {cell} latent cells divide"
            if x.shape[2] == 1:
                mend = "a line of tokens takes a TransformerConfig with patch=1"
            raise UserError(f"latents of {x.shape[2]}x{x.shape[3]} cannot be halved {len(self.down) - 1} times: {mend}")
        embedding = self.level(level)
        if context.broadcast is not None:
            embedding = embedding + self.context(context.broadcast)[:, None]
        embedding = jax.nn.silu(embedding)
        extra = [] if context.aligned is None else [context.aligned]
        x = self.enter(jnp.concatenate([x, _coordinates(x), *extra], axis=-1))
        skips, levels = [], []
        for i, blocks in enumerate(self.down):
            if i:
                x = _halve(x)
            for block in blocks:
                x = block(x, embedding)
                skips.append(x)
            levels.append(x)
        x = self.middle(x, context)
        for i, blocks in enumerate(self.up):
            for block in blocks:
                x = block(jnp.concatenate([x, skips.pop()], axis=-1), embedding)
            if i < len(self.up) - 1:
                x = _double(x)
        return Output(self.leave(jax.nn.silu(self.norm(x))), {"levels": levels})


def _coordinates(x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w 3"]:
    """Where each cell lies: frame index over 8, row and column in [-1, 1]."""
    b, t, h, w, _ = x.shape
    axes = jnp.arange(t) / 8.0, jnp.linspace(-1, 1, h), jnp.linspace(-1, 1, w)
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1).astype(x.dtype)
    return jnp.broadcast_to(grid, (b, t, h, w, 3))


def _halve(x: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 c"]:
    b, t, h, w, c = x.shape
    return x.reshape(b, t, h // 2, 2, w // 2, 2, c).mean((3, 5))


def _double(x: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 c"]:
    return jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
