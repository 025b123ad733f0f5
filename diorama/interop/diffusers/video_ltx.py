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
import numpy as np

from diorama.core.array import Array, Float, Key, Latents, Media
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.interop.diffusers.blocks import from_options
from diorama.interop.diffusers.video_blocks import Conv3d, Source, check_media, fold, patches, pixels, unfold
from diorama.interop.tensors import Tensors
from diorama.net.layers import product

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


def conv(source: Source, inputs: int, outputs: int, causal: bool, size: int = 3, stride: int = 1) -> Conv3d:
    """A convolution with zeros around every frame, and the clip continued in time by repeating its ends."""
    before = size - 1 if causal else (size - 1) // 2
    return Conv3d.read(
        source["conv"], inputs, outputs, (size, size, size), (stride, stride, stride),
        frames=(before, 0 if causal else before), space=(size // 2, size // 2), edges="edge",
    )  # fmt: skip


def unit(x: Float[Array, "... c"]) -> Float[Array, "... c"]:
    """Channels over their root mean square (Zhang & Sennrich 2019), without a gain."""
    wide = x.astype(jnp.float32)
    return (wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + 1e-8)).astype(x.dtype)


class LayerNorm(Module):
    """Zero mean and unit variance over channels (Ba et al. 2016), position by position."""

    weight: Float[Array, "c"]
    bias: Float[Array, "c"]
    epsilon: float = static()

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        wide = x.astype(jnp.float32)
        centred = wide - wide.mean(-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(jnp.mean(centred * centred, -1, keepdims=True) + self.epsilon)
        return (normed * self.weight.astype(jnp.float32) + self.bias.astype(jnp.float32)).astype(x.dtype)


class Embedder(Module):
    """The noise time of each example as numbers for every channel: Fourier features and a two-layer perceptron."""

    weight1: Float[Array, "256 d"]
    bias1: Float[Array, "d"]
    weight2: Float[Array, "d d"]
    bias2: Float[Array, "d"]

    @staticmethod
    def read(source: Source, width: int) -> "Embedder":
        one, two = source["timestep_embedder"]["linear_1"], source["timestep_embedder"]["linear_2"]
        return Embedder(
            one.take("weight", (width, 256)).T, one.take("bias", (width,)),
            two.take("weight", (width, width)).T, two.take("bias", (width,)),
        )  # fmt: skip

    def __call__(self, timestep: Float[Array, "b"]) -> Float[Array, "b d"]:
        # Angles reach 1000, where frequencies a last bit apart make cosines 6e-5 apart: round as diffusers does.
        exponent = -math.log(10000) * np.arange(128, dtype=np.float32) / 128
        angle = timestep.astype(jnp.float32)[:, None] * np.exp(exponent.astype(np.float64)).astype(np.float32)
        features = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1).astype(self.weight1.dtype)
        return product(jax.nn.silu(product(features, self.weight1) + self.bias1), self.weight2) + self.bias2


def modulations(table: Float[Array, "n c"], embedding: Float[Array, "b d"]) -> list[Float[Array, "b 1 1 1 c"]]:
    """The `n` shifts and scales that a block's own table and the noise time's embedding (d = n c) add up to."""
    added = embedding.reshape(-1, *table.shape) + table
    return [added[:, i, None, None, None] for i in range(len(table))]


class Residual(Module):
    """Two convolutions beside a shortcut; in the decoder shifted and scaled by the noise time, and made noisy.

    Args:
        table: own shifts and scales (before, and between the convolutions), added to those of the noise time.
        noise: how much noise each convolution's output is given, a channel.
    """

    conv1: Conv3d
    conv2: Conv3d
    shortcut: tuple[LayerNorm, Conv3d] | None
    table: Float[Array, "4 i"] | None
    noise: tuple[Float[Array, "i"], Float[Array, "i"]] | None

    @staticmethod
    def read(
        source: Source, inputs: int, outputs: int, causal: bool, epsilon: float, timed: bool = False,
        noisy: bool = False,
    ) -> "Residual":  # fmt: skip
        if inputs != outputs and (timed or noisy):
            raise UserError(
                f"{source.prefix[:-1]} goes from a width of {inputs} to {outputs} with timestep_conditioning or "
                "decoder_inject_noise, which is not known here (nor can diffusers 0.42 run it)"
            )
        shortcut, norm3 = None, source["norm3"]
        if inputs != outputs:
            norm = LayerNorm(norm3.take("weight", (inputs,)), norm3.take("bias", (inputs,)), epsilon)
            shortcut = norm, conv(source["conv_shortcut"], inputs, outputs, causal, size=1)
        scales = [source.take(f"per_channel_scale{i}", (inputs, 1, 1)).reshape(inputs) for i in (1, 2) if noisy]
        return Residual(
            conv(source["conv1"], inputs, outputs, causal),
            conv(source["conv2"], outputs, outputs, causal),
            shortcut,
            source.take("scale_shift_table", (4, inputs)) if timed else None,
            (scales[0], scales[1]) if noisy else None,
        )

    def __call__(
        self, x: Float[Array, "b t h w i"], embedding: Float[Array, "b d"] | None = None,
        keys: Iterator[Key] | None = None,
    ) -> Float[Array, "b t h w o"]:  # fmt: skip
        y = unit(x)
        if self.table is not None:
            assert embedding is not None
            shift1, scale1, shift2, scale2 = modulations(self.table, embedding)
            y = y * (1 + scale1) + shift1
        y = self._noisy(self.conv1(jax.nn.silu(y)), 0, keys)
        y = unit(y)
        if self.table is not None:
            y = y * (1 + scale2) + shift2
        y = self._noisy(self.conv2(jax.nn.silu(y)), 1, keys)
        if self.shortcut is not None:
            norm, narrow = self.shortcut
            x = narrow(norm(x))
        return x + y

    def _noisy(self, y: Float[Array, "b t h w o"], which: int, keys: Iterator[Key] | None) -> Array:
        """`y` with one image of noise, the same for every frame and example."""
        if self.noise is None or keys is None:
            return y
        image = jax.random.normal(next(keys), y.shape[2:4], y.dtype)
        return y + image[..., None] * self.noise[which]


class Halve(Module):
    """Fewer frames, rows and columns in the form of 0.9.5: a convolution folded into channels beside averages."""

    conv: Conv3d
    stride: tuple[int, int, int] = static()
    outputs: int = static()

    @staticmethod
    def read(source: Source, inputs: int, outputs: int, causal: bool, stride: tuple[int, int, int]) -> "Halve":
        cells = math.prod(stride)
        if outputs % cells or inputs * cells % outputs:
            raise UserError(f"{source.prefix[:-1]} cannot go from a width of {inputs} to {outputs} by averaging")
        return Halve(conv(source["conv"], inputs, outputs // cells, causal), stride, outputs)

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t2 h2 w2 o"]:
        x = jnp.concatenate([x[:, : self.stride[0] - 1], x], axis=1)  # the first frame fills its block
        folded = fold(x, self.stride)
        means = folded.reshape(*folded.shape[:-1], self.outputs, -1).mean(axis=-1)
        return fold(self.conv(x), self.stride) + means


class Double(Module):
    """Twice the frames after the first, rows and columns: a convolution unfolded from channels.

    Args:
        repeats: how often the unfolded input itself is repeated in channels and added; 0 for never.
    """

    conv: Conv3d
    repeats: int = static()

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t2 h2 w2 o"]:
        y = unfold(self.conv(x), (2, 2, 2))
        if self.repeats:
            y = y + jnp.tile(unfold(x, (2, 2, 2)), self.repeats)
        return y[:, 1:]


class Level(Module):
    """Blocks, of which some come before and some after the change of resolution; the middle has no such change."""

    before: list[Residual]
    resample: Conv3d | Halve | Double | None
    after: list[Residual]
    embedder: Embedder | None

    def __call__(
        self, x: Float[Array, "b t h w i"], timestep: Float[Array, "b"] | None = None,
        keys: Iterator[Key] | None = None,
    ) -> Float[Array, "b t2 h2 w2 o"]:  # fmt: skip
        embedding = None
        if self.embedder is not None:
            assert timestep is not None
            embedding = self.embedder(timestep)
        for block in self.before:
            x = block(x, embedding, keys)
        if self.resample is not None:
            x = self.resample(x)
        for block in self.after:
            x = block(x, embedding, keys)
        return x


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


def residuals(
    source: Source, number: int, width: int, causal: bool, epsilon: float, timed: bool = False, noisy: bool = False
) -> list[Residual]:
    """The residual blocks of one level."""
    parts = [source["resnets"][i] for i in range(number)]
    return [Residual.read(part, width, width, causal, epsilon, timed, noisy) for part in parts]


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
