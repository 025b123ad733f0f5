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

from diorama.core.array import Array, Float, Latents, Media
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.interop.diffusers.video_blocks import (
    Conv3d,
    Source,
    check_media,
    video_options,
)
from diorama.interop.diffusers.video_cosmos_blocks import (
    Double,
    Halve,
    Level,
    Norm,
    Patches,
    Projection,
    blocks,
    middle,
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
