"""`AutoencoderKLCosmos`: the continuous video tokenizers of Cosmos (NVIDIA 2025).

Pixels enter as Haar wavelet coefficients of blocks, the first frame repeated to fill its block. Convolutions are
factorised in space and time, attention too. All of it is causal: before the first frame, clips are continued by
repeating it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Float, Latents, Media
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.interop.diffusers.video_blocks import (
    Conv3d,
    Source,
    attend,
    check_media,
    enlarge,
    fold,
    unfold,
    video_options,
)
from diorama.interop.tensors import Tensors


@dataclass(frozen=True)
class AutoencoderKLCosmosConfig:
    """Options of diffusers' `AutoencoderKLCosmos`, by its names.

    Args:
        in_channels, out_channels: of the media.
        latent_channels: numbers a latent cell.
        encoder_block_out_channels, decode_block_out_channels: widths between levels, from full resolution down.
        attention_resolutions: sizes at which every block has attention, when the media are of size `resolution`.
        num_layers: residual blocks a level of the encoder; the decoder has one more.
        patch_size: pixels along each side, and frames, that are folded into channels at the entrance.
        patch_type: how they are: "haar" or "rearrange".
        scaling_factor: latents divided by their deviation are multiplied by it.
        spatial_compression_ratio, temporal_compression_ratio: pixels along each side, and frames, of a latent cell.
        latents_mean, latents_std: of the latents, a channel, or a channel and latent frame (channels outermost).
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 16
    encoder_block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    decode_block_out_channels: tuple[int, ...] = (256, 512, 512, 512)
    attention_resolutions: tuple[int, ...] = (32,)
    resolution: int = 1024
    num_layers: int = 2
    patch_size: int = 4
    patch_type: str = "haar"
    scaling_factor: float = 1.0
    spatial_compression_ratio: int = 8
    temporal_compression_ratio: int = 8
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.patch_type not in ("haar", "rearrange"):
            raise UserError(f"patch_type is {self.patch_type}, which is not known here: haar and rearrange are")
        ratios = (self.patch_size, self.spatial, self.temporal)
        if any(n < 1 or n & (n - 1) for n in ratios) or self.patch_size > min(ratios):
            raise UserError("the compression ratios are powers of two, and patch_size is one that is in both")
        if len(self.encoder_block_out_channels) != len(self.decode_block_out_channels):
            raise UserError("encoder_block_out_channels and decode_block_out_channels are equally many")
        for what, changes in (("encoder", self.halvings), ("decoder", self.doublings)):
            rows, frames = (self.patch_size * 2 ** sum(axis) for axis in zip(*changes, strict=True))
            if (rows, frames) != (self.spatial, self.temporal):
                raise UserError(
                    f"levels as many as these make the {what} change sizes {rows} times and frames {frames} times, not "
                    f"{self.spatial} and {self.temporal} times"
                )

    @staticmethod
    def from_dict(options: Mapping[str, Any]) -> "AutoencoderKLCosmosConfig":
        """From a `config.json`. Raises `UserError` that names options not known here, or values of another type."""
        return video_options(AutoencoderKLCosmosConfig, options)

    @property
    def spatial(self) -> int:
        """Pixels along each side of a latent cell."""
        return self.spatial_compression_ratio

    @property
    def temporal(self) -> int:
        """Frames a latent frame after the first."""
        return self.temporal_compression_ratio

    @property
    def channels(self) -> int:
        """Numbers a latent cell."""
        return self.latent_channels

    @property
    def _wanted(self) -> tuple[int, int]:
        """Halvings of the sides and of the frames that the patches leave to be done."""
        return (self.spatial // self.patch_size).bit_length() - 1, (self.temporal // self.patch_size).bit_length() - 1

    @property
    def halvings(self) -> list[tuple[bool, bool]]:
        """For each level of the encoder whether it halves the sides, and the frames; the last never does."""
        sides, frames = self._wanted
        levels = len(self.encoder_block_out_channels) - 2
        return [(i < sides, i < frames) for i in range(levels)] + [(False, False)]

    @property
    def doublings(self) -> list[tuple[bool, bool]]:
        """For each level of the decoder whether it doubles the sides, and the frames; the last never does."""
        sides, frames = self._wanted
        time = [0 < i < frames + 1 for i in range(len(self.decode_block_out_channels) - 2)]
        space = [t or (i < sides and sides > frames) for i, t in enumerate(time)]
        return [*zip(space, time, strict=True), (False, False)]

    def build(self, tensors: Tensors) -> "AutoencoderKLCosmos":
        """That of a file. What does not match is noted in `tensors`, whose `finish` says so."""
        source, channels = Source(tensors), self.latent_channels
        return AutoencoderKLCosmos(
            encoder(source["encoder"], self),
            Conv3d.read(source["quant_conv"], channels, channels, (1, 1, 1)),
            Conv3d.read(source["post_quant_conv"], channels, channels, (1, 1, 1)),
            decoder(source["decoder"], self),
            self,
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


class Stack(Module):
    """The encoder after its patches, or the decoder before them."""

    enter: Projection
    levels: list[Level]
    norm: Norm
    leave: Projection

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t2 h2 w2 o"]:
        x = self.enter(x)
        for level in self.levels:
            x = level(x)
        return self.leave(jax.nn.silu(self.norm(x)))


def encoder(source: Source, config: AutoencoderKLCosmosConfig) -> Stack:
    """The encoder: levels, then the middle."""
    widths = config.encoder_block_out_channels
    size = config.resolution // config.patch_size
    levels = []
    for i, ((inputs, outputs), halving) in enumerate(zip(pairwise(widths), config.halvings, strict=True)):
        part = source["down_blocks"][i]
        attention = size // 2**i in config.attention_resolutions
        resample = Halve.read(part["downsamplers"][0], outputs, *halving) if any(halving) else None
        levels.append(Level(blocks(part, config.num_layers, inputs, outputs, attention), resample))
    return Stack(
        Projection.read(source["conv_in"], config.in_channels * config.patch_size**3, widths[0]),
        [*levels, middle(source["mid_block"], widths[-1])],
        Norm.read(source["norm_out"], widths[-1]),
        Projection.read(source["conv_out"], widths[-1], config.latent_channels),
    )


def decoder(source: Source, config: AutoencoderKLCosmosConfig) -> Stack:
    """The decoder: the middle, then levels."""
    widths = config.decode_block_out_channels[::-1]
    size = config.resolution // config.patch_size // 2 ** (len(widths) - 2)
    levels = [middle(source["mid_block"], widths[0])]
    for i, ((inputs, outputs), doubling) in enumerate(zip(pairwise(widths), config.doublings, strict=True)):
        part = source["up_blocks"][i]
        attention = size * 2**i in config.attention_resolutions
        resample = Double.read(part["upsamplers"][0], outputs, *doubling) if any(doubling) else None
        levels.append(Level(blocks(part, config.num_layers + 1, inputs, outputs, attention), resample))
    return Stack(
        Projection.read(source["conv_in"], config.latent_channels, widths[0]),
        levels,
        Norm.read(source["norm_out"], widths[-1]),
        Projection.read(source["conv_out"], widths[-1], config.out_channels * config.patch_size**3),
    )


class AutoencoderKLCosmos(Module):
    """The autoencoder; `Pretrained` adds the latents' statistics."""

    encoder: Stack
    quant: Conv3d
    unquant: Conv3d
    decoder: Stack
    config: AutoencoderKLCosmosConfig = static()

    @property
    def _patches(self) -> Patches:
        return Patches(self.config.patch_size, self.config.patch_type)

    def encode(self, media: Media) -> Latents:
        """Latents, of 1 + k frames for media of 1 + k * temporal. Raises `UserError` for other media."""
        check_media(media, self.config, self.config.in_channels)
        return self.quant(self.encoder(self._patches(media)))

    def decode(self, latents: Latents) -> Media:
        """Media (not clipped) of 1 + (t - 1) * temporal frames."""
        return self._patches.back(self.decoder(self.unquant(latents)))
