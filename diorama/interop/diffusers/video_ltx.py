"""`AutoencoderKLLTXVideo`: the video autoencoders of LTX-Video 0.9.0, 0.9.1 and 0.9.5 (HaCohen et al. 2024).

The encoder is causal in time, its clips continued before the first frame by repeating it. The decoder is not: it
looks at frames on both sides. From 0.9.1 on it also denoises a little, told by `timestep` how noisy the latents are,
and that of 0.9.1 adds noise of its own between its layers.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key, Latents, Media
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.interop.diffusers.blocks import from_options
from diorama.interop.diffusers.video_blocks import Conv3d, Source, check_media, patches, pixels
from diorama.interop.diffusers.video_ltx_blocks import (
    Double,
    Embedder,
    Halve,
    Level,
    Residual,
    conv,
    modulations,
    residuals,
    unit,
)
from diorama.interop.tensors import Tensors

STRIDES = {"conv": (2, 2, 2), "spatial": (1, 2, 2), "temporal": (2, 1, 1), "spatiotemporal": (2, 2, 2)}
DOWN, DOWN_095 = "LTXVideoDownBlock3D", "LTXVideo095DownBlock3D"


@dataclass(frozen=True)
class AutoencoderKLLTXVideoConfig:
    """Options of diffusers' `AutoencoderKLLTXVideo`, by its names and with its defaults (those of 0.9.0).

    Lists of the decoder are read from their ends, as diffusers reads them: its lowest level comes last.

    Args:
        in_channels, out_channels: of the media.
        latent_channels: numbers a latent cell.
        block_out_channels, decoder_block_out_channels: width of each level.
        down_block_types: of each level of the encoder: that of 0.9.0 and 0.9.1, or that of 0.9.5.
        layers_per_block, decoder_layers_per_block: residual blocks of each level, and after them of the middle.
        spatio_temporal_scaling, decoder_spatio_temporal_scaling: whether each level halves or doubles the clip.
        decoder_inject_noise: whether each level, and after them the middle, adds noise (0.9.1).
        downsample_type: what a level of 0.9.5 halves, and how: conv, spatial, temporal or spatiotemporal.
        upsample_residual: whether each doubling has a shortcut.
        upsample_factor: by how much each doubling narrows.
        timestep_conditioning: whether the decoder is told the noise of the latents (from 0.9.1 on).
        patch_size: pixels along each side that are folded into channels at the entrance.
        patch_size_t: frames folded so; 1, for diffusers cannot run other ones.
        resnet_norm_eps: added to the variance by the norm of a shortcut.
        scaling_factor: latents divided by their deviation are multiplied by it.
        encoder_causal, decoder_causal: whether frames are kept from seeing later ones.
        spatial_compression_ratio, temporal_compression_ratio: kept for diffusers, which tiles by them; see `spatial`
            and `temporal`.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 128
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    down_block_types: tuple[str, ...] = (DOWN, DOWN, DOWN, DOWN)
    decoder_block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: tuple[int, ...] = (4, 3, 3, 3, 4)
    decoder_layers_per_block: tuple[int, ...] = (4, 3, 3, 3, 4)
    spatio_temporal_scaling: tuple[bool, ...] = (True, True, True, False)
    decoder_spatio_temporal_scaling: tuple[bool, ...] = (True, True, True, False)
    decoder_inject_noise: tuple[bool, ...] = (False, False, False, False, False)
    downsample_type: tuple[str, ...] = ("conv", "conv", "conv", "conv")
    upsample_residual: tuple[bool, ...] = (False, False, False, False)
    upsample_factor: tuple[int, ...] = (1, 1, 1, 1)
    timestep_conditioning: bool = False
    patch_size: int = 4
    patch_size_t: int = 1
    resnet_norm_eps: float = 1e-6
    scaling_factor: float = 1.0
    encoder_causal: bool = True
    decoder_causal: bool = False
    spatial_compression_ratio: int | None = None
    temporal_compression_ratio: int | None = None

    def __post_init__(self) -> None:
        if other := sorted(set(self.down_block_types) - {DOWN, DOWN_095}):
            raise UserError(f"down_block_types has {other[0]}, which is not known here: {DOWN} and {DOWN_095} are")
        if other := sorted(set(self.downsample_type) - set(STRIDES)):
            raise UserError(f"downsample_type has {other[0]}, which is not known here: {', '.join(STRIDES)} are")
        if self.patch_size_t != 1:
            raise UserError(f"patch_size_t={self.patch_size_t} is not known here (nor can diffusers 0.42 run it)")
        levels, ups = self.levels, len(self.decoder_block_out_channels)
        for name, least in (
            ("down_block_types", levels), ("downsample_type", levels), ("spatio_temporal_scaling", levels),
            ("layers_per_block", levels + 1), ("decoder_spatio_temporal_scaling", ups),
            ("decoder_layers_per_block", ups + 1), ("decoder_inject_noise", ups + 1), ("upsample_residual", ups),
            ("upsample_factor", ups),
        ):  # fmt: skip
            if len(getattr(self, name)) < least:
                raise UserError(f"{name} has {len(getattr(self, name))} values where {least} are needed")
        doubling = 2 ** sum(self.decoder_spatio_temporal_scaling[::-1][:ups])
        if (self.spatial, self.temporal) != (self.patch_size * doubling, doubling):
            raise UserError(
                f"the encoder makes clips {self.spatial} times smaller and {self.temporal} times shorter, the decoder "
                f"{self.patch_size * doubling} times larger and {doubling} times longer"
            )

    @staticmethod
    def from_dict(options: Mapping[str, Any]) -> "AutoencoderKLLTXVideoConfig":
        """From a `config.json`. Raises `UserError` that names options not known here, or values of another type."""
        return from_options(AutoencoderKLLTXVideoConfig, options)

    @property
    def levels(self) -> int:
        """How many the encoder has; in the form of 0.9.5 `block_out_channels` begins with the width of the entrance."""
        return len(self.block_out_channels) - (self.down_block_types[-1] == DOWN_095)

    def strides(self, level: int) -> tuple[int, int, int]:
        """By how much a level of the encoder divides frames, rows and columns."""
        if not self.spatio_temporal_scaling[level]:
            return (1, 1, 1)
        return STRIDES["conv" if self.down_block_types[level] == DOWN else self.downsample_type[level]]

    @property
    def spatial(self) -> int:
        """Pixels along each side of a latent cell."""
        return self.patch_size * math.prod(self.strides(i)[1] for i in range(self.levels))

    @property
    def temporal(self) -> int:
        """Frames a latent frame after the first."""
        return math.prod(self.strides(i)[0] for i in range(self.levels))

    @property
    def channels(self) -> int:
        """Numbers a latent cell."""
        return self.latent_channels

    def build(self, tensors: Tensors) -> "AutoencoderKLLTXVideo":
        """That of a file. What does not match is noted in `tensors`, whose `finish` says so.

        The file's `latents_mean` and `latents_std` are left to be taken: they are the codec's, not the autoencoder's.
        """
        source = Source(tensors)
        return AutoencoderKLLTXVideo(Encoder.read(source["encoder"], self), Decoder.read(source["decoder"], self), self)


class Encoder(Module):
    enter: Conv3d
    levels: list[Level]
    leave: Conv3d

    @staticmethod
    def read(source: Source, config: AutoencoderKLLTXVideoConfig) -> "Encoder":
        widths, causal, epsilon = config.block_out_channels, config.encoder_causal, config.resnet_norm_eps
        entered = widths[0]
        if config.down_block_types[-1] == DOWN:  # whose levels widen at their end, the last not at all
            widths = (*widths, widths[-1])
        levels = []
        for i, (inputs, outputs) in enumerate(pairwise(widths)):
            part, old, stride = source["down_blocks"][i], config.down_block_types[i] == DOWN, config.strides(i)
            resample: Conv3d | Halve | None = None
            widened = inputs
            if stride != (1, 1, 1) and (old or config.downsample_type[i] == "conv"):
                resample = conv(part["downsamplers"][0], inputs, inputs, causal, stride=2)
            elif stride != (1, 1, 1):
                resample, widened = Halve.read(part["downsamplers"][0], inputs, outputs, causal, stride), outputs
            if not old and widened != outputs:
                raise UserError(f"{part.prefix[:-1]} cannot go from a width of {inputs} to {outputs} by its type")
            after = [Residual.read(part["conv_out"], inputs, outputs, causal, epsilon)] if widened != outputs else []
            blocks = residuals(part, config.layers_per_block[i], inputs, causal, epsilon)
            levels.append(Level(blocks, resample, after, None))
        middle = residuals(source["mid_block"], config.layers_per_block[-1], widths[-1], causal, epsilon)
        return Encoder(
            conv(source["conv_in"], config.in_channels * config.patch_size**2, entered, causal),
            [*levels, Level(middle, None, [], None)],
            conv(source["conv_out"], widths[-1], config.latent_channels + 1, causal),
        )

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t2 h2 w2 c"]:
        """Means of the posterior, and last one log-variance for all channels."""
        x = self.enter(x)
        for level in self.levels:
            x = level(x)
        return self.leave(jax.nn.silu(unit(x)))


class Decoder(Module):
    enter: Conv3d
    levels: list[Level]
    embedder: Embedder | None
    table: Float[Array, "2 c"] | None
    timestep_scale: Float[Array, ""] | None
    leave: Conv3d

    @staticmethod
    def read(source: Source, config: AutoencoderKLLTXVideoConfig) -> "Decoder":
        causal, epsilon, timed = config.decoder_causal, config.resnet_norm_eps, config.timestep_conditioning
        layers, noisy = config.decoder_layers_per_block[::-1], config.decoder_inject_noise[::-1]
        middle_width = width = config.decoder_block_out_channels[-1]

        def embedder(part: Source, numbers: int) -> Embedder | None:
            return Embedder.read(part["time_embedder"], numbers) if timed else None

        part = source["mid_block"]
        blocks = residuals(part, layers[0], width, causal, epsilon, timed, noisy[0])
        levels = [Level(blocks, None, [], embedder(part, 4 * width))]
        for i, outputs in enumerate(config.decoder_block_out_channels[::-1]):
            part, factor = source["up_blocks"][i], config.upsample_factor[::-1][i]
            inputs, outputs = width // factor, outputs // factor
            before, resample = [], None
            if inputs != outputs:
                before = [Residual.read(part["conv_in"], inputs, outputs, causal, epsilon, timed, noisy[i + 1])]
            if config.decoder_spatio_temporal_scaling[::-1][i]:
                repeats = 8 // factor if config.upsample_residual[::-1][i] else 0
                resample = Double(
                    conv(part["upsamplers"][0]["conv"], outputs * factor, 8 * outputs, causal),
                    repeats,
                )
            blocks = residuals(part, layers[i + 1], outputs, causal, epsilon, timed, noisy[i + 1])
            levels.append(Level(before, resample, blocks, embedder(part, 4 * inputs)))
            width = outputs
        return Decoder(
            conv(source["conv_in"], config.latent_channels, middle_width, causal),
            levels,
            embedder(source, 2 * width),
            source.take("scale_shift_table", (2, width)) if timed else None,
            source.take("timestep_scale_multiplier", ()) if timed else None,
            conv(source["conv_out"], width, config.out_channels * config.patch_size**2, causal),
        )

    def __call__(
        self, x: Float[Array, "b t h w c"], timestep: Float[Array, "b"] | None, keys: Iterator[Key] | None
    ) -> Float[Array, "b t2 h2 w2 o"]:
        if self.timestep_scale is not None and timestep is not None:
            timestep = timestep * self.timestep_scale
        x = self.enter(x)
        for level in self.levels:
            x = level(x, timestep, keys)
        x = unit(x)
        if self.embedder is not None and self.table is not None:
            assert timestep is not None
            shift, scale = modulations(self.table, self.embedder(timestep))
            x = x * (1 + scale) + shift
        return self.leave(jax.nn.silu(x))


class AutoencoderKLLTXVideo(Module):
    """The autoencoder; `Pretrained` adds the latents' statistics."""

    encoder: Encoder
    decoder: Decoder
    config: AutoencoderKLLTXVideoConfig = static()

    def encode(self, media: Media) -> Latents:
        """The posterior's mean, of 1 + k frames for media of 1 + k * temporal. Raises `UserError` for other media."""
        check_media(media, self.config, self.config.in_channels)
        return self.encoder(patches(media, self.config.patch_size))[..., :-1]

    def decode(
        self, latents: Latents, timestep: Float[Array, "b"] | float | None = None, key: Key | None = None
    ) -> Media:
        """Media (not clipped) of 1 + (t - 1) * temporal frames.

        Args:
            timestep: how noisy the latents are, from 0 (clean, which None means) to 1: latents z that were mixed as
                (1 - s) z + s epsilon are decoded at a timestep near s. For decoders with `timestep_conditioning`.
            key: of the noise that the decoder adds to its layers; None adds none. For those with
                `decoder_inject_noise`. diffusers draws it anew at every call.

        Raises `UserError` where the decoder has no use for what it is given.
        """
        if timestep is not None and not self.config.timestep_conditioning:
            raise UserError("timestep was given to a decoder that was not made for one (timestep_conditioning)")
        if key is not None and not any(self.config.decoder_inject_noise):
            raise UserError("a key was given to a decoder that draws no noise (decoder_inject_noise)")
        times = jnp.broadcast_to(jnp.asarray(0.0 if timestep is None else timestep, jnp.float32), latents.shape[:1])
        keys = None if key is None else (jax.random.fold_in(key, i) for i in count())
        timed = times if self.config.timestep_conditioning else None
        return pixels(self.decoder(latents, timed, keys), self.config.patch_size)
