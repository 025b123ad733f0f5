"""A U-Net on `(b, t, h, w, c)`: convolutions factorised in space and time, attention at chosen levels.

The denoiser for few cores: on two of them many steps of a small convolutional net beat few steps of a transformer; and
for pixels and super-resolution. Ho et al. 2022 (video diffusion models, arXiv 2204.03458) for the factorisation, Karras
et al. 2022 (arXiv 2206.00364) for the shape of a block. Between levels stand the mean of four cells and its repetition,
without learned parts, as in ADM (arXiv 2105.05233) and EDM2 (arXiv 2312.02696).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Bool, Float, Key
from diorama.core.errors import UserError
from diorama.core.module import Module, Remat, remat, static
from diorama.net.attention import CrossAttention, SelfAttention, check_heads, frame_mask
from diorama.net.condition import Context
from diorama.net.layers import Linear, NoiseLevel, Norm, SpatialConv, TemporalConv, modulate
from diorama.net.output import Output
from diorama.net.parallel import by_token, flat, unflat
from diorama.net.places import grid_positions


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a U-Net.

    Args:
        widths: channels of each level; height and width are halved between levels.
        depth: residual blocks a level, on the way down and again on the way up.
        heads: of every attention.
        width: of the embedding of noise level and conditions.
        causal: no frame sees a later one.
        attention: levels, 0 the finest, whose every block attends too: within each frame, then along time at each
            place, then to the tokens of the conditions.
        middle: attention at the coarsest level, between down and up: "joint" over all cells of all frames, or
            "factorised" as that of the blocks.
        remat: what the backward pass keeps of a block: "none" (all), "dots" (products and convolutions), "full"
            (nothing).
    """

    widths: tuple[int, ...] = (64, 128)
    depth: int = 1
    heads: int = 4
    width: int = 128
    causal: bool = False
    attention: tuple[int, ...] = ()
    middle: Literal["joint", "factorised"] = "joint"
    remat: Remat = "none"

    def __post_init__(self) -> None:
        check_levels(self.widths, self.attention, self.heads)

    def init(self, key: Key, channels: int, aligned: int = 0) -> "UNet":
        """A network for latents of `channels`, with `aligned` channels of conditions on their grid."""
        keys = iter(jax.random.split(key, 8 + 4 * self.depth * len(self.widths)))
        down, up = (
            [[Block.init(next(keys), *size, level in self.attention, self) for size in sizes] for level, sizes in side]
            for side in block_sizes(self.widths, self.depth)
        )
        return UNet(
            enter=SpatialConv.init(next(keys), channels + aligned + 3, self.widths[0]),
            level=NoiseLevel.init(next(keys), self.width),
            context=Linear.init(next(keys), self.width, self.width),
            down=down,
            middle=Attend.init(next(keys), self.widths[-1], self.middle == "factorised", self),
            up=up,
            norm=Norm.init(self.widths[0]),
            leave=SpatialConv.init(next(keys), self.widths[0], channels, scale=0.0),
            remat=self.remat,
        )


def check_levels(widths: tuple[int, ...], attention: tuple[int, ...], heads: int) -> None:
    """Raises `UserError` where attention cannot be at the levels asked for."""
    for level in attention:
        if not 0 <= level < len(widths):
            raise UserError(
                f"attention at level {level}: the levels of {len(widths)} widths are 0 to {len(widths) - 1}"
            )
        check_heads(widths[level], heads)
    check_heads(widths[-1], heads)


Sizes = list[tuple[int, list[tuple[int, int]]]]


def block_sizes(widths: tuple[int, ...], depth: int) -> tuple[Sizes, Sizes]:
    """(inputs, outputs) of every block by level, down and up again, where each block takes a skip beside its input."""
    levels = list(enumerate(zip((widths[0], *widths[:-1]), widths, strict=True)))
    down = [(i, [(above if j == 0 else width, width) for j in range(depth)]) for i, (above, width) in levels]
    up = [(i, [(2 * width, above if j == depth - 1 else width) for j in range(depth)]) for i, (above, width) in levels]
    return down, up[::-1]


class Attend(Module):
    """Attention over the cells of all frames at once, or within each frame and then along time at each place; then to
    the tokens of the conditions.

    Along time a still sees itself only: its attention is the identity on values, as Ho et al. 2022 (section 3) have it
    where stills are trained with videos.
    """

    norm1: Norm
    attention: SelfAttention
    norm2: Norm
    cross: CrossAttention
    causal: bool = static()
    norm3: Norm | None = None
    time: SelfAttention | None = None

    @staticmethod
    def init(key: Key, width: int, factorised: bool, config: UNetConfig) -> "Attend":
        k1, k2 = jax.random.split(key)
        return Attend(
            Norm.init(width),
            SelfAttention.init(k1, width, config.heads),
            Norm.init(width),
            CrossAttention.init(k2, width, config.width, config.heads),
            config.causal,
            Norm.init(width) if factorised else None,
            SelfAttention.init(jax.random.fold_in(key, 2), width, config.heads) if factorised else None,
        )

    def __call__(
        self, x: Float[Array, "b t h w d"], context: Context, alone: Bool[Array, "b"] | None
    ) -> Float[Array, "b t h w d"]:
        def space(y: Array, *how: Any) -> Array:
            return y + self.attention(self.norm1(y), *how)

        def time(y: Array, *how: Any) -> Array:
            return y + self.time(self.norm3(y), *how)  # type: ignore[misc]

        y = over(x, space, time if self.time is not None else None, self.causal, alone)
        if context.tokens is not None and context.mask is not None:
            y = y + self.cross(self.norm2(y), context.tokens, context.mask)
        return unflat(y, x.shape[1:4])


def over(
    x: Float[Array, "b t h w d"],
    space: Callable[..., Array],
    time: Callable[..., Array] | None,
    causal: bool,
    alone: Bool[Array, "b"] | None,
) -> Float[Array, "b n d"]:
    """`space(y, positions, mask, alone)` over the cells of all frames at once; or, where there is a `time` to follow,
    within each frame, and then `time(y, ...)` along time at each place. Cells come out in the order of `flat`."""
    b, t, h, w, d = x.shape

    def how(frames: int, rows: int, columns: int, parts: int) -> tuple[Array, Array | None, Array | None]:
        positions = grid_positions(frames, rows, columns)
        mask = frame_mask(positions, causal) if frames > 1 else None
        return positions, mask, None if alone is None else jnp.repeat(alone, parts)

    if time is None:
        positions = flat(grid_positions(t, h, w).reshape(1, t, h, w, 3))[0]
        return space(flat(x), positions, frame_mask(positions, causal) if t > 1 else None, alone)
    y = space(x.reshape(b * t, h * w, d), *how(1, h, w, t))
    y = y.reshape(b, t, h * w, d).swapaxes(1, 2).reshape(b * h * w, t, d)
    y = time(y, *how(t, 1, 1, h * w))
    return flat(y.reshape(b, h * w, t, d).swapaxes(1, 2).reshape(x.shape))


class Block(Module):
    """Two 3 x 3 convolutions; between them one along time, and the embedding as scale and shift; then attention."""

    norm1: Norm
    conv1: SpatialConv
    film: Linear
    conv2: SpatialConv
    norm2: Norm
    time: TemporalConv
    skip: Linear | None
    attend: Attend | None = None

    @staticmethod
    def init(key: Key, inputs: int, outputs: int, attend: bool, config: UNetConfig) -> "Block":
        k1, k2, k3, k4, k5 = jax.random.split(key, 5)
        return Block(
            Norm.init(inputs),
            SpatialConv.init(k1, inputs, outputs),
            Linear.init(k2, config.width, 2 * outputs, scale=0.1),
            SpatialConv.init(k3, outputs, outputs, scale=0.0),
            Norm.init(outputs),
            TemporalConv.init(k4, outputs, outputs, config.causal, scale=0.0),
            Linear.init(k5, inputs, outputs) if inputs != outputs else None,
            Attend.init(jax.random.fold_in(key, 5), outputs, True, config) if attend else None,
        )

    def __call__(
        self, x: Float[Array, "b t h w i"], embedding: Float[Array, "b t d"], context: Context, alone: Array | None
    ) -> Float[Array, "b t h w o"]:
        scale, shift = jnp.split(self.film(embedding), 2, axis=-1)
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        y = y + self.time(jax.nn.silu(self.norm2(y)))  # before conv2, which brings to one place what has moved
        y = self.conv2(jax.nn.silu(modulate(y, scale, shift)))
        y = (x if self.skip is None else self.skip(x)) + y
        return y if self.attend is None else self.attend(y, context, alone)


class UNet(Module):
    """`(x, level, context) -> Output`; made by `UNetConfig.init`."""

    enter: SpatialConv
    level: NoiseLevel
    context: Linear
    down: list[list[Block]]
    middle: Attend
    up: list[list[Block]]
    norm: Norm
    leave: SpatialConv
    remat: Remat = static(default="none")

    @property
    def attentions(self) -> int:
        """How many places with self-attention there are; within frames and then along time is one."""
        return attentions(self)

    def __call__(self, x: Float[Array, "b t h w c"], level: Float[Array, "b t"], context: Context) -> Output:
        """Args: `x` noisy latents of about unit variance; `level` in [0, 1], each frame's own noise level."""
        check_input(x, context, len(self.down))
        embedding = self.level(level)
        if context.broadcast is not None:
            embedding = embedding + by_clip(self.context(context.broadcast))
        embedding = jax.nn.silu(embedding)
        extra = [] if context.aligned is None else [context.aligned]
        x = self.enter(jnp.concatenate([x, _coordinates(x), *extra], axis=-1))
        x, levels = through(self, x, embedding, context, lambda x, skip: jnp.concatenate([x, skip], axis=-1))
        return Output(self.leave(jax.nn.silu(self.norm(x))), {"levels": levels})


def through(
    net: Any, x: Array, embedding: Array, context: Context, join: Callable[[Array, Array], Array]
) -> tuple[Array, list[Array]]:
    """Down the levels of `net`, through its middle and up again with `join(x, skip)` before every block.

    Returns the last x, and the features at the end of each level on the way down.
    """

    def block_of(block: Any, x: Array, *inputs: Any) -> Array:
        return block(by_token(x), *inputs)

    call = remat(block_of, net.remat)
    alone = repeat(None) if context.alone is None else iter(context.alone.T)
    skips, levels = [], []
    for i, blocks in enumerate(net.down):
        if i:
            x = _halve(x)
        for block in blocks:
            x = call(block, x, embedding, context, next(alone) if block.attend else None)
            skips.append(x)
        levels.append(x)
    x = call(net.middle, x, context, next(alone))
    for i, blocks in enumerate(net.up):
        for block in blocks:
            x = call(block, join(x, skips.pop()), embedding, context, next(alone) if block.attend else None)
        if i < len(net.up) - 1:
            x = _double(x)
    return x, levels


def attentions(net: Any) -> int:
    """As of `UNet`: the middle, and blocks that attend."""
    return 1 + sum(block.attend is not None for blocks in (*net.down, *net.up) for block in blocks)


def by_clip(said: Float[Array, "b d"] | Float[Array, "b t d"]) -> Float[Array, "b #t d"]:
    """What is said of whole clips or of each frame, beside what is said of frames."""
    return said[:, None] if said.ndim == 2 else said


def check_input(x: Float[Array, "b t h w c"], context: Context, levels: int) -> None:
    """Raises `UserError` where a U-Net of so many levels cannot take `x` and what is said of it."""
    if context.memory is not None or context.places is not None:
        raise UserError("a U-Net takes whole clips only: for a memory of past frames or packs use a TransformerConfig")
    cell = 2 ** (levels - 1)
    if x.shape[2] % cell or x.shape[3] % cell:
        mend = f"give net.widths fewer levels, or clips sides that {cell} latent cells divide"
        if x.shape[2] == 1:
            mend = "a line of tokens takes a TransformerConfig with patch=(1, 1, 1)"
        raise UserError(f"latents of {x.shape[2]}x{x.shape[3]} cannot be halved {levels - 1} times: {mend}")


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
