"""The layers of `AutoencoderKLCosmos`: wavelets, factorised convolutions, attention, changes of size."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Float
from diorama.core.module import Module, static
from diorama.interop.diffusers.video_blocks import (
    Conv3d,
    Source,
    attend,
    enlarge,
    fold,
    unfold,
)

_PAIR = np.array([[1, 1], [1, -1]], np.float32)
HAAR = np.kron(np.kron(_PAIR, _PAIR), _PAIR)  # symmetric, and its own inverse but for a factor of 8


def haar(x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 c8"]:
    """Blocks of 2 x 2 x 2 as their mean and seven mean differences (Haar 1910), the mean's channels first."""
    folded = fold(x, (2, 2, 2))
    bands = folded.reshape(*folded.shape[:-1], -1, 8) @ jnp.asarray(HAAR / 8, x.dtype)
    return bands.swapaxes(-1, -2).reshape(folded.shape)


def unhaar(x: Float[Array, "b t h w c8"]) -> Float[Array, "b t2 h2 w2 c"]:
    """The inverse of `haar`."""
    bands = x.reshape(*x.shape[:-1], 8, -1).swapaxes(-1, -2)
    return unfold((bands @ jnp.asarray(HAAR, x.dtype)).reshape(x.shape), (2, 2, 2))


class Patches(Module):
    """Media as blocks of `size` frames, rows and columns in channels, the first frame filling a block of its own."""

    size: int = static()
    kind: str = static()

    def __call__(self, media: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 c2"]:
        x = jnp.concatenate([jnp.repeat(media[:, :1], self.size, axis=1), media[:, 1:]], axis=1)
        if self.kind == "rearrange":
            return fold(x, (self.size,) * 3)
        for _ in range(self.size.bit_length() - 1):
            x = haar(x)
        return x

    def back(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 c2"]:
        """The inverse."""
        if self.kind == "rearrange":
            x = unfold(x, (self.size,) * 3)
        else:
            for _ in range(self.size.bit_length() - 1):
                x = unhaar(x)
        return x[:, self.size - 1 :]


class Norm(Module):
    """Zero mean and unit variance over each frame's positions and channels together (Wu & He 2018, in one group)."""

    weight: Float[Array, "c"]
    bias: Float[Array, "c"]

    @staticmethod
    def read(source: Source, channels: int) -> "Norm":
        norm = source["norm"]
        return Norm(norm.take("weight", (channels,)), norm.take("bias", (channels,)))

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean((2, 3, 4), keepdims=True)
        normed = centred * jax.lax.rsqrt(jnp.mean(centred * centred, (2, 3, 4), keepdims=True) + 1e-6)
        return (normed * self.weight.astype(jnp.float32) + self.bias.astype(jnp.float32)).astype(x.dtype)


def space_conv(source: Source, inputs: int, outputs: int, stride: int = 1) -> Conv3d:
    """A 3 x 3 convolution of every frame; with a stride of 2 its zeros are below and to the right only."""
    zeros = (1, 1) if stride == 1 else (0, 1)
    return Conv3d.read(source, inputs, outputs, (1, 3, 3), (1, stride, stride), space=zeros)


def time_conv(source: Source, width: int, stride: int = 1) -> Conv3d:
    """A three-tap convolution along time, the first frame repeated before the clip."""
    return Conv3d.read(source, width, width, (3, 1, 1), (stride, 1, 1), frames=(3 - stride, 0), edges="edge")


def point_conv(source: Source, inputs: int, outputs: int) -> Conv3d:
    """A product over channels."""
    return Conv3d.read(source, inputs, outputs, (1, 1, 1))


class Projection(Module):
    """A convolution in space and then one in time."""

    space: Conv3d
    time: Conv3d

    @staticmethod
    def read(source: Source, inputs: int, outputs: int) -> "Projection":
        return Projection(space_conv(source["conv_s"], inputs, outputs), time_conv(source["conv_t"], outputs))

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h w o"]:
        return self.time(self.space(x))


class Residual(Module):
    """Two projections beside a shortcut."""

    norm1: Norm
    conv1: Projection
    norm2: Norm
    conv2: Projection
    shortcut: Conv3d | None

    @staticmethod
    def read(source: Source, inputs: int, outputs: int) -> "Residual":
        return Residual(
            Norm.read(source["norm1"], inputs),
            Projection.read(source["conv1"], inputs, outputs),
            Norm.read(source["norm2"], outputs),
            Projection.read(source["conv2"], outputs, outputs),
            point_conv(source["conv_shortcut"], inputs, outputs) if inputs != outputs else None,
        )

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h w o"]:
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        y = self.conv2(jax.nn.silu(self.norm2(y)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class Heads(Module):
    """Norm, query, key, value and output of one attention."""

    norm: Norm
    query: Conv3d
    key: Conv3d
    value: Conv3d
    out: Conv3d

    @staticmethod
    def read(source: Source, width: int) -> "Heads":
        names = (source["to_q"], source["to_k"], source["to_v"], source["to_out"][0])
        return Heads(Norm.read(source["norm"], width), *(point_conv(name, width, width) for name in names))

    def inputs(self, x: Float[Array, "b t h w c"]) -> tuple[Array, Array, Array]:
        y = self.norm(x)
        return self.query(y), self.key(y), self.value(y)


class Attention(Module):
    """Self-attention of one head within every frame, and then of every position with its past."""

    space: Heads
    time: Heads

    @staticmethod
    def read(source: Source, number: int, width: int) -> "Attention":
        return Attention(
            Heads.read(source["attentions"][number], width), Heads.read(source["temp_attentions"][number], width)
        )

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        b, t, h, w, c = x.shape
        query, key, value = (y.reshape(b, t, h * w, c) for y in self.space.inputs(x))
        x = x + self.space.out(attend(query, key, value).reshape(x.shape))
        query, key, value = (y.transpose(0, 2, 3, 1, 4) for y in self.time.inputs(x))
        past = jnp.tril(jnp.ones((t, t), bool))
        return x + self.time.out(attend(query, key, value, past).transpose(0, 3, 1, 2, 4))


class Halve(Module):
    """Half the size and half the frames after the first, where there is a convolution for it, beside plain averages."""

    space: Conv3d | None
    time: Conv3d | None
    mix: Conv3d

    @staticmethod
    def read(source: Source, width: int, space: bool, time: bool) -> "Halve":
        return Halve(
            space_conv(source["conv1"], width, width, stride=2) if space else None,
            time_conv(source["conv2"], width, stride=2) if time else None,
            point_conv(source["conv3"], width, width),
        )

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 c"]:
        if self.space is not None:
            x = self.space(x) + (x[:, :, ::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, ::2] + x[:, :, 1::2, 1::2]) / 4
        if self.time is not None:
            x = jnp.concatenate([x[:, :1], x], axis=1)
            x = self.time(x) + (x[:, ::2] + x[:, 1::2]) / 2
        return self.mix(x)


class Double(Module):
    """Twice the frames after the first and twice the size, where there is a convolution for it, by repetition."""

    time: Conv3d | None
    space: Conv3d | None
    mix: Conv3d

    @staticmethod
    def read(source: Source, width: int, space: bool, time: bool) -> "Double":
        return Double(
            time_conv(source["conv1"], width) if time else None,
            space_conv(source["conv2"], width, width) if space else None,
            point_conv(source["conv3"], width, width),
        )

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 c"]:
        if self.time is not None:
            x = jnp.repeat(x, 2, axis=1)[:, 1:]
            x = x + self.time(x)
        if self.space is not None:
            x = enlarge(x)
            x = x + self.space(x)
        return self.mix(x)


class Level(Module):
    """Residual blocks of one resolution, each with or without attention after it, and the way to the next."""

    blocks: list[tuple[Residual, Attention | None]]
    resample: Halve | Double | None

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t2 h2 w2 o"]:
        for block, attention in self.blocks:
            x = block(x)
            if attention is not None:
                x = attention(x)
        return x if self.resample is None else self.resample(x)


def blocks(
    source: Source, number: int, inputs: int, outputs: int, attention: bool
) -> list[tuple[Residual, Attention | None]]:
    """The blocks of one level, of which the first changes the width."""
    widths = pairwise([inputs] + [outputs] * number)
    return [
        (Residual.read(source["resnets"][i], a, b), Attention.read(source, i, b) if attention else None)
        for i, (a, b) in enumerate(widths)
    ]


def middle(source: Source, width: int) -> Level:
    """What stands at the lowest resolution: a residual block, attention, a residual block."""
    first, second = (Residual.read(source["resnets"][i], width, width) for i in range(2))
    return Level([(first, Attention.read(source, 0, width)), (second, None)], None)
