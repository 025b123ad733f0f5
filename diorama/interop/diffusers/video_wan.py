"""`AutoencoderKLWan`: the causal video autoencoders of Wan 2.1 and 2.2 (Wan Team 2025).

diffusers codes the first frame alone and then four frames (or one latent frame) at a time, handing the last frames of
every convolution's input from chunk to chunk. Here a clip is coded whole, and what comes out is the same:

- with zeros before the clip, every causal convolution gives what the chunks give;
- halving in time keeps the first frame as it is and convolves frames (0, 1, 2), (2, 3, 4), ... into one each;
- doubling in time keeps the first frame as it is and starts its convolution, with zeros before it, at the second.

Of models that shorten clips less than four times, diffusers leaves out last frames that do not fill a chunk; here all
are coded.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Latents, Media
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.interop.diffusers.video_blocks import (
    Conv3d,
    Source,
    attend,
    check_media,
    conv2d,
    enlarge,
    fold,
    patches,
    pixels,
    unfold,
    video_options,
)
from diorama.interop.tensors import Tensors


@dataclass(frozen=True)
class AutoencoderKLWanConfig:
    """Options of diffusers' `AutoencoderKLWan`, by its names.

    Args:
        base_dim, decoder_base_dim: width at full resolution of the encoder, and of the decoder (None: the same).
        z_dim: numbers a latent cell.
        dim_mult: width of each level over the base.
        num_res_blocks: residual blocks a level of the encoder; the decoder has one more.
        attn_scales: sizes at which the encoder would have attention: none, for diffusers cannot run it with any.
        temperal_downsample: whether each level but the last also halves the frames.
        dropout: of training; nothing here depends on it.
        latents_mean, latents_std: of the latents, a channel.
        is_residual: the form of 2.2, with shortcuts that average or repeat around every level.
        in_channels, out_channels: of the patches: those of the media times `patch_size` squared.
        patch_size: pixels along each side that are folded into channels at the entrance.
        scale_factor_temporal, scale_factor_spatial: kept for diffusers, which tiles by them; see `temporal`, `spatial`.
    """

    base_dim: int = 96
    decoder_base_dim: int | None = None
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attn_scales: tuple[float, ...] = ()
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    dropout: float = 0.0
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None
    is_residual: bool = False
    in_channels: int = 3
    out_channels: int = 3
    patch_size: int | None = None
    scale_factor_temporal: int | None = 4
    scale_factor_spatial: int | None = 8

    def __post_init__(self) -> None:
        if len(self.temperal_downsample) != len(self.dim_mult) - 1:
            raise UserError("temperal_downsample has one value for each of dim_mult but the last")
        if self.attn_scales:
            raise UserError("attn_scales is not known here (nor can diffusers 0.42 encode with it): leave it empty")
        if self.temporal > 4:
            raise UserError("temperal_downsample halves the frames more than twice, which chunks of four do not allow")

    @staticmethod
    def from_dict(options: Mapping[str, Any]) -> "AutoencoderKLWanConfig":
        """From a `config.json`. Raises `UserError` that names options not known here, or values of another type."""
        return video_options(AutoencoderKLWanConfig, options)

    @property
    def spatial(self) -> int:
        """Pixels along each side of a latent cell."""
        return (self.patch_size or 1) * 2 ** (len(self.dim_mult) - 1)

    @property
    def temporal(self) -> int:
        """Frames a latent frame after the first."""
        return 2 ** sum(self.temperal_downsample)

    @property
    def channels(self) -> int:
        """Numbers a latent cell."""
        return self.z_dim

    def build(self, tensors: Tensors) -> "AutoencoderKLWan":
        """That of a file. What does not match is noted in `tensors`, whose `finish` says so."""
        source = Source(tensors)
        return AutoencoderKLWan(
            Encoder.read(source["encoder"], self),
            Conv3d.read(source["quant_conv"], 2 * self.z_dim, 2 * self.z_dim, (1, 1, 1)),
            Conv3d.read(source["post_quant_conv"], self.z_dim, self.z_dim, (1, 1, 1)),
            Decoder.read(source["decoder"], self),
            self,
        )


class Norm(Module):
    """Channels over their root mean square, times a gain (Zhang & Sennrich 2019), position by position."""

    gain: Float[Array, "c"]

    @staticmethod
    def read(source: Source, channels: int, axes: int = 3) -> "Norm":
        """The file keeps the gain with as many empty `axes` as its input has beside batch and channels."""
        return Norm(source.take("gamma", (channels, *(1,) * axes)).reshape(channels))

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        wide = x.astype(jnp.float32)
        length = jnp.sqrt(jnp.sum(wide * wide, axis=-1, keepdims=True))
        unit = wide / jnp.maximum(length, 1e-12) * math.sqrt(x.shape[-1])
        return (unit * self.gain.astype(jnp.float32)).astype(x.dtype)


def causal(source: Source, inputs: int, outputs: int) -> Conv3d:
    """A 3 x 3 x 3 convolution with zeros around it, along time before it only."""
    return Conv3d.read(source, inputs, outputs, (3, 3, 3), frames=(2, 0), space=(1, 1))


class Residual(Module):
    """Two causal convolutions beside a shortcut."""

    norm1: Norm
    conv1: Conv3d
    norm2: Norm
    conv2: Conv3d
    shortcut: Conv3d | None

    @staticmethod
    def read(source: Source, inputs: int, outputs: int) -> "Residual":
        return Residual(
            Norm.read(source["norm1"], inputs),
            causal(source["conv1"], inputs, outputs),
            Norm.read(source["norm2"], outputs),
            causal(source["conv2"], outputs, outputs),
            Conv3d.read(source["conv_shortcut"], inputs, outputs, (1, 1, 1)) if inputs != outputs else None,
        )

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h w o"]:
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        y = self.conv2(jax.nn.silu(self.norm2(y)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class Attention(Module):
    """Self-attention of one head within every frame."""

    norm: Norm
    qkv: Conv3d
    out: Conv3d

    @staticmethod
    def read(source: Source, width: int) -> "Attention":
        return Attention(
            Norm.read(source["norm"], width, axes=2),
            conv2d(source["to_qkv"], width, 3 * width, 1),
            conv2d(source["proj"], width, width, 1),
        )

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        b, t, h, w, c = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, t, h * w, 3 * c)
        return x + self.out(attend(*jnp.split(qkv, 3, axis=-1)).reshape(x.shape))


class Middle(Module):
    """What stands at the lowest resolution: a residual block, attention, a residual block."""

    before: Residual
    attention: Attention
    after: Residual

    @staticmethod
    def read(source: Source, width: int) -> "Middle":
        return Middle(
            Residual.read(source["resnets"][0], width, width),
            Attention.read(source["attentions"][0], width),
            Residual.read(source["resnets"][1], width, width),
        )

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        return self.after(self.attention(self.before(x)))


class Halve(Module):
    """Half the size, and, with `time`, half the frames after the first."""

    space: Conv3d
    time: Conv3d | None

    @staticmethod
    def read(source: Source, width: int, time: bool) -> "Halve":
        return Halve(
            conv2d(source["resample"][1], width, width, 3, stride=2, space=(0, 1)),
            Conv3d.read(source["time_conv"], width, width, (3, 1, 1), stride=(2, 1, 1)) if time else None,
        )

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 c"]:
        x = self.space(x)
        if self.time is None or x.shape[1] == 1:
            return x
        return jnp.concatenate([x[:, :1], self.time(x)], axis=1)


class Double(Module):
    """Twice the size, and, with `time`, twice the frames after the first."""

    time: Conv3d | None
    space: Conv3d

    @staticmethod
    def read(source: Source, inputs: int, outputs: int, time: bool) -> "Double":
        return Double(
            Conv3d.read(source["time_conv"], inputs, 2 * inputs, (3, 1, 1), frames=(2, 0)) if time else None,
            conv2d(source["resample"][1], inputs, outputs, 3, space=(1, 1)),
        )

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t2 h2 w2 o"]:
        if self.time is not None and x.shape[1] > 1:
            b, t, h, w, c = x.shape
            pairs = self.time(x[:, 1:]).reshape(b, t - 1, h, w, 2, c)
            later = pairs.transpose(0, 1, 4, 2, 3, 5).reshape(b, 2 * (t - 1), h, w, c)
            x = jnp.concatenate([x[:, :1], later], axis=1)
        return self.space(enlarge(x))


class Average(Module):
    """The shortcut around a level of the encoder: blocks folded into channels, of which groups are averaged."""

    size: tuple[int, int, int] = static()
    outputs: int = static()

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t2 h2 w2 o"]:
        missing = -x.shape[1] % self.size[0]
        folded = fold(jnp.pad(x, ((0, 0), (missing, 0), (0, 0), (0, 0), (0, 0))), self.size)
        return folded.reshape(*folded.shape[:-1], self.outputs, -1).mean(axis=-1)


class Repeat(Module):
    """The shortcut around a level of the decoder: channels repeated and unfolded into blocks."""

    size: tuple[int, int, int] = static()
    outputs: int = static()

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t2 h2 w2 o"]:
        repeats = self.outputs * math.prod(self.size) // x.shape[-1]
        return unfold(jnp.repeat(x, repeats, axis=-1), self.size)[:, self.size[0] - 1 :]


class Level(Module):
    """Blocks of one resolution, the way to the next, and, in 2.2, a shortcut around both."""

    blocks: list[Residual]
    resample: Halve | Double | None
    shortcut: Average | Repeat | None

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t2 h2 w2 o"]:
        y = x
        for block in self.blocks:
            y = block(y)
        if self.resample is not None:
            y = self.resample(y)
        return y if self.shortcut is None else y + self.shortcut(x)


def down_levels(source: Source, config: AutoencoderKLWanConfig) -> list[Level]:
    """The encoder's levels: in the file of 2.1 one list of blocks, in that of 2.2 a list of levels."""
    widths = [config.base_dim * m for m in (1, *config.dim_mult)]
    levels, numbers = [], count()
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        last = i == len(config.dim_mult) - 1
        time = not last and config.temperal_downsample[i]
        block_widths = pairwise([inputs] + [outputs] * config.num_res_blocks)
        if config.is_residual:
            size = (1, 1, 1) if last else (1 + time, 2, 2)
            if inputs * math.prod(size) % outputs:
                raise UserError(f"level {i}: a width of {inputs} cannot be averaged to {outputs}; change dim_mult")
            blocks = [Residual.read(source[i]["resnets"][j], a, b) for j, (a, b) in enumerate(block_widths)]
            resample = None if last else Halve.read(source[i]["downsampler"], outputs, time)
            levels.append(Level(blocks, resample, Average(size, outputs)))
        else:
            blocks = [Residual.read(source[next(numbers)], a, b) for a, b in block_widths]
            resample = None if last else Halve.read(source[next(numbers)], outputs, time)
            levels.append(Level(blocks, resample, None))
    return levels


def up_levels(source: Source, config: AutoencoderKLWanConfig) -> list[Level]:
    """The decoder's levels; going up halves the width in 2.1 and keeps it in 2.2."""
    base = config.decoder_base_dim or config.base_dim
    widths = [base * m for m in (config.dim_mult[-1], *config.dim_mult[::-1])]
    levels = []
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        last = i == len(config.dim_mult) - 1
        time = not last and config.temperal_downsample[::-1][i]
        if not config.is_residual and i:
            inputs //= 2
        block_widths = pairwise([inputs] + [outputs] * (config.num_res_blocks + 1))
        blocks = [Residual.read(source[i]["resnets"][j], a, b) for j, (a, b) in enumerate(block_widths)]
        if last:
            levels.append(Level(blocks, None, None))
        elif config.is_residual:
            size = (1 + time, 2, 2)
            if outputs * math.prod(size) % inputs:
                raise UserError(f"level {i}: a width of {inputs} cannot be repeated to {outputs}; change dim_mult")
            resample = Double.read(source[i]["upsampler"], outputs, outputs, time)
            levels.append(Level(blocks, resample, Repeat(size, outputs)))
        else:
            resample = Double.read(source[i]["upsamplers"][0], outputs, outputs // 2, time)
            levels.append(Level(blocks, resample, None))
    return levels


class Encoder(Module):
    enter: Conv3d
    levels: list[Level]
    middle: Middle
    norm: Norm
    leave: Conv3d

    @staticmethod
    def read(source: Source, config: AutoencoderKLWanConfig) -> "Encoder":
        width = config.base_dim * config.dim_mult[-1]
        return Encoder(
            causal(source["conv_in"], config.in_channels, config.base_dim),
            down_levels(source["down_blocks"], config),
            Middle.read(source["mid_block"], width),
            Norm.read(source["norm_out"], width),
            causal(source["conv_out"], width, 2 * config.z_dim),
        )

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t2 h2 w2 c2"]:
        x = self.enter(x)
        for level in self.levels:
            x = level(x)
        return self.leave(jax.nn.silu(self.norm(self.middle(x))))


class Decoder(Module):
    enter: Conv3d
    middle: Middle
    levels: list[Level]
    norm: Norm
    leave: Conv3d

    @staticmethod
    def read(source: Source, config: AutoencoderKLWanConfig) -> "Decoder":
        base = config.decoder_base_dim or config.base_dim
        low, full = base * config.dim_mult[-1], base * config.dim_mult[0]
        return Decoder(
            causal(source["conv_in"], config.z_dim, low),
            Middle.read(source["mid_block"], low),
            up_levels(source["up_blocks"], config),
            Norm.read(source["norm_out"], full),
            causal(source["conv_out"], full, config.out_channels),
        )

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t2 h2 w2 o"]:
        x = self.middle(self.enter(x))
        for level in self.levels:
            x = level(x)
        return self.leave(jax.nn.silu(self.norm(x)))


class AutoencoderKLWan(Module):
    """The autoencoder; `Pretrained` adds the latents' statistics."""

    encoder: Encoder
    quant: Conv3d
    unquant: Conv3d
    decoder: Decoder
    config: AutoencoderKLWanConfig = static()

    def encode(self, media: Media) -> Latents:
        """The posterior's mean, of 1 + k frames for media of 1 + k * temporal. Raises `UserError` for other media."""
        patch = self.config.patch_size or 1
        check_media(media, self.config, self.config.in_channels // patch**2)
        return jnp.split(self.quant(self.encoder(patches(media, patch))), 2, axis=-1)[0]

    def decode(self, latents: Latents) -> Media:
        """Media clipped to [-1, 1], of 1 + (t - 1) * temporal frames."""
        return jnp.clip(pixels(self.decoder(self.unquant(latents)), self.config.patch_size or 1), -1, 1)
