"""`AutoencoderDC`: the deep compression autoencoder (Chen et al. 2024, "Deep Compression Autoencoder for Efficient
High-Resolution Diffusion Models"), 32 to 128 pixels a latent cell, as Sana uses it.

Shortcuts that fold space into channels (and average) beside every change of size; residual blocks at high
resolution and EfficientViT blocks (Cai et al. 2023: linear attention at several scales, gated convolutions) at low.
Media are `(b, t, h, w, c)`; frames do not see one another.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import jax

from diorama.core.array import Array, Float, Key, Latents, Media
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.interop.diffusers.blocks import (
    ACTIVATIONS,
    Conv,
    RMSNorm,
    by_frame,
    endless,
    from_options,
    read,
    wanted,
)
from diorama.interop.diffusers.dc_blocks import (
    KINDS,
    NORMS,
    Down,
    EfficientViTBlock,
    ResBlock,
    Up,
    averaged,
    blocks_of,
    repeated,
)
from diorama.interop.tensors import Tensors


@dataclass(frozen=True)
class AutoencoderDCConfig:
    """Options of diffusers' `AutoencoderDC`, by its names and with its defaults.

    Args:
        in_channels: of the media.
        latent_channels: numbers a latent cell.
        attention_head_dim: channels of a head of the linear attention.
        encoder_block_types, decoder_block_types: "ResBlock" or "EfficientViTBlock", for all levels or one a level.
        encoder_block_out_channels, decoder_block_out_channels: width of each level, from full resolution down.
        encoder_layers_per_block, decoder_layers_per_block: blocks a level. 0 for the first level alone: no block then
            works at full resolution, and the entrance halves the sides.
        encoder_qkv_multiscales, decoder_qkv_multiscales: kernel sizes of the further scales of attention, a level.
        upsample_block_type: "pixel_shuffle", or "interpolate" (nearest).
        downsample_block_type: "pixel_unshuffle", or "conv" (of stride 2).
        decoder_norm_types: "rms_norm" or "batch_norm", for all levels or one a level.
        decoder_act_fns: activation of the residual blocks, for all levels or one a level.
        encoder_out_shortcut, decoder_in_shortcut: channels averaged, and repeated, beside the convolutions at the
            latents.
        decoder_conv_act_fn: activation before the last convolution.
        scaling_factor: what gives latents unit variance.
    """

    in_channels: int = 3
    latent_channels: int = 32
    attention_head_dim: int = 32
    encoder_block_types: str | tuple[str, ...] = "ResBlock"
    decoder_block_types: str | tuple[str, ...] = "ResBlock"
    encoder_block_out_channels: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    decoder_block_out_channels: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    encoder_layers_per_block: tuple[int, ...] = (2, 2, 2, 3, 3, 3)
    decoder_layers_per_block: tuple[int, ...] = (3, 3, 3, 3, 3, 3)
    encoder_qkv_multiscales: tuple[tuple[int, ...], ...] = ((), (), (), (5,), (5,), (5,))
    decoder_qkv_multiscales: tuple[tuple[int, ...], ...] = ((), (), (), (5,), (5,), (5,))
    upsample_block_type: Literal["pixel_shuffle", "interpolate"] = "pixel_shuffle"
    downsample_block_type: Literal["pixel_unshuffle", "conv"] = "pixel_unshuffle"
    decoder_norm_types: str | tuple[str, ...] = "rms_norm"
    decoder_act_fns: str | tuple[str, ...] = "silu"
    encoder_out_shortcut: bool = True
    decoder_in_shortcut: bool = True
    decoder_conv_act_fn: str = "relu"
    scaling_factor: float = 1.0

    def __post_init__(self) -> None:
        levels = len(self.encoder_block_out_channels)
        if levels < 2:
            raise UserError("AutoencoderDC has two levels at least")
        for name, value, known in (
            ("encoder_block_types", self.encoder_block_types, KINDS),
            ("decoder_block_types", self.decoder_block_types, KINDS),
            ("decoder_norm_types", self.decoder_norm_types, NORMS),
            ("decoder_act_fns", self.decoder_act_fns, ACTIVATIONS),
            ("decoder_conv_act_fn", self.decoder_conv_act_fn, ACTIVATIONS),
        ):
            if other := sorted(set(_each(value, levels)) - set(known)):
                raise UserError(
                    f"AutoencoderDC with {name} {', '.join(other)} is not known here: {', '.join(known)} are"
                )
        for name in _PER_LEVEL:
            if not isinstance(value := getattr(self, name), str) and len(value) != levels:
                raise UserError(f"AutoencoderDC has {len(value)} {name} for {levels} encoder_block_out_channels")
        for layers in (self.encoder_layers_per_block, self.decoder_layers_per_block):
            if layers[0] < 0 or min(layers[1:], default=1) < 1:
                raise UserError("AutoencoderDC has levels without a block; only the first may be so, with 0")
        if (self.encoder_layers_per_block[0] == 0) != (self.decoder_layers_per_block[0] == 0):
            raise UserError("AutoencoderDC has blocks on the first level in both encoder and decoder, or in neither")
        if any(
            size < 1 or size % 2 == 0
            for level in (*self.encoder_qkv_multiscales, *self.decoder_qkv_multiscales)
            for size in level
        ):
            raise UserError("AutoencoderDC's scales of attention (qkv_multiscales) are odd kernel sizes")
        self._check_channels()

    def _check_channels(self) -> None:
        """Shortcuts average and repeat whole channels, and attention has whole heads."""
        first = 0 if self.encoder_layers_per_block[0] else 1
        down, up = self.encoder_block_out_channels[first:], self.decoder_block_out_channels[first:]
        shares = [(4 * high, low) for high, low in pairwise(down)] + [(4 * high, low) for high, low in pairwise(up)]
        shares += [(down[-1], self.latent_channels)] * self.encoder_out_shortcut
        shares += [(up[-1], self.latent_channels)] * self.decoder_in_shortcut
        if wrong := [f"{many} channels and {few}" for many, few in shares if min(many, few) < 1 or many % few]:
            raise UserError(f"AutoencoderDC has no shortcut between {wrong[0]}: one number has to divide the other")
        for kinds, widths in (
            (self.encoder_block_types, self.encoder_block_out_channels),
            (self.decoder_block_types, self.decoder_block_out_channels),
        ):
            for kind, width in zip(_each(kinds, len(widths)), widths, strict=True):
                if kind == "EfficientViTBlock" and not 1 <= self.attention_head_dim <= width:
                    raise UserError(f"attention_head_dim={self.attention_head_dim} is not of 1 to {width} channels")

    @staticmethod
    def from_dict(options: Mapping[str, Any]) -> "AutoencoderDCConfig":
        """Of a `config.json`. Raises `UserError` that names options or values that are not known here."""
        return from_options(AutoencoderDCConfig, options)

    @property
    def spatial(self) -> int:
        """Pixels along each side of a latent cell."""
        return 2 ** (len(self.encoder_block_out_channels) - 1)

    @property
    def temporal(self) -> int:
        """Frames a latent frame: every frame is coded alone."""
        return 1

    @property
    def channels(self) -> int:
        """Numbers a latent cell."""
        return self.latent_channels

    def init(self, key: Key) -> "AutoencoderDC":
        """A new one, of random weights. Batch norms (where there are any) do nothing: no statistics are learned."""
        keys = endless(key)
        return AutoencoderDC(Encoder.init(keys, self), Decoder.init(keys, self), self)

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the arrays in a file."""
        found = wanted(jax.eval_shape(self.init, jax.random.key(0)))
        statistics = [name for name in found if name.endswith(".running_mean")]
        return found | {re.sub("running_mean$", "num_batches_tracked", name): () for name in statistics}

    def build(self, tensors: Tensors) -> "AutoencoderDC":
        """That of a file. What does not match is noted in `tensors`, whose `finish` says so."""
        for name, shape in self.parameters().items():
            if name.endswith(".num_batches_tracked"):  # what training alone uses
                tensors.take(name, shape)
        return read(jax.eval_shape(self.init, jax.random.key(0)), tensors)


_PER_LEVEL = (
    "encoder_block_types", "decoder_block_types", "decoder_block_out_channels", "encoder_layers_per_block",
    "decoder_layers_per_block", "encoder_qkv_multiscales", "decoder_qkv_multiscales", "decoder_norm_types",
    "decoder_act_fns",
)  # fmt: skip


def _each(value: str | tuple[str, ...], levels: int) -> tuple[str, ...]:
    return (value,) * levels if isinstance(value, str) else value


class Encoder(Module):
    """Media to latents."""

    conv_in: Conv | Down
    down_blocks: list[list[ResBlock | EfficientViTBlock | Down]]
    conv_out: Conv
    shortcut: bool = static()

    @staticmethod
    def init(keys: Iterator[Key], config: AutoencoderDCConfig) -> "Encoder":
        widths, layers, kind = (
            config.encoder_block_out_channels, config.encoder_layers_per_block, config.downsample_block_type
        )  # fmt: skip
        enter: Conv | Down = (
            Conv.init(next(keys), config.in_channels, widths[0])
            if layers[0]
            else Down.init(keys, config.in_channels, widths[1], kind, shortcut=False)
        )
        levels = []
        for i, block in enumerate(_each(config.encoder_block_types, len(widths))):
            sizes, head = config.encoder_qkv_multiscales[i], config.attention_head_dim
            blocks = blocks_of(keys, block, widths[i], layers[i], sizes, "rms_norm", "silu", head)
            down = i + 1 < len(widths) and layers[i] > 0
            levels.append([*blocks, *([Down.init(keys, widths[i], widths[i + 1], kind)] if down else [])])
        out = Conv.init(next(keys), widths[-1], config.latent_channels)
        return Encoder(enter, levels, out, config.encoder_out_shortcut)

    def __call__(self, media: Media) -> Latents:
        return by_frame(self.frames, media)

    def frames(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c2"]:
        """The same for frames."""
        x = self.conv_in(x)
        for level in self.down_blocks:
            for block in level:
                x = block(x)
        y = self.conv_out(x)
        return y + averaged(x, y.shape[-1]) if self.shortcut else y


class Decoder(Module):
    """Latents to media, not clipped."""

    conv_in: Conv
    up_blocks: list[list[ResBlock | EfficientViTBlock | Up]]
    norm_out: RMSNorm
    conv_out: Conv | Up
    activation: str = static()
    shortcut: bool = static()

    @staticmethod
    def init(keys: Iterator[Key], config: AutoencoderDCConfig) -> "Decoder":
        widths, layers, kind = (
            config.decoder_block_out_channels, config.decoder_layers_per_block, config.upsample_block_type
        )  # fmt: skip
        n = len(widths)
        norms, activations = _each(config.decoder_norm_types, n), _each(config.decoder_act_fns, n)
        enter = Conv.init(next(keys), config.latent_channels, widths[-1])
        levels = []
        for i, block in enumerate(_each(config.decoder_block_types, n)):
            sizes, head = config.decoder_qkv_multiscales[i], config.attention_head_dim
            blocks = blocks_of(keys, block, widths[i], layers[i], sizes, norms[i], activations[i], head)
            up = i + 1 < n and layers[i] > 0
            levels.append([*([Up.init(keys, widths[i + 1], widths[i], kind)] if up else []), *blocks])
        last = widths[0] if layers[0] else widths[1]
        leave: Conv | Up = (
            Conv.init(next(keys), last, config.in_channels)
            if layers[0]
            else Up.init(keys, last, config.in_channels, kind, shortcut=False)
        )
        norm, act = RMSNorm.init(last), config.decoder_conv_act_fn
        return Decoder(enter, levels, norm, leave, act, config.decoder_in_shortcut)

    def __call__(self, latents: Latents) -> Media:
        return by_frame(self.frames, latents)

    def frames(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c2"]:
        """The same for frames."""
        y = self.conv_in(x)
        y = y + repeated(x, y.shape[-1]) if self.shortcut else y
        for level in reversed(self.up_blocks):
            for block in level:
                y = block(y)
        return self.conv_out(ACTIVATIONS[self.activation](self.norm_out(y)))


class AutoencoderDC(Module):
    """Encoder and decoder; `Pretrained` adds the latents' scale."""

    encoder: Encoder
    decoder: Decoder
    config: AutoencoderDCConfig = static()

    def encode(self, media: Media) -> Latents:
        """The latents (they have no distribution); the sides of media are whole latent cells."""
        return self.encoder(media)

    def decode(self, latents: Latents) -> Media:
        """Media, not clipped."""
        return self.decoder(latents)
