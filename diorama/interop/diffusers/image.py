"""`AutoencoderKL`: the image autoencoder of latent diffusion (Rombach et al. 2022), in the forms that Stable Diffusion
1 to 3, SDXL and Flux gave it.

Residual blocks with group norm, a level for each halving of the sides, self-attention between two blocks at the
lowest, and a diagonal Gaussian for the latents. Media are `(b, t, h, w, c)`; frames do not see one another.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec.bottleneck import KL, Drawn, Gaussian
from diorama.core.array import Array, Float, Key, Latents, Media, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.interop.diffusers.blocks import (
    ACTIVATIONS,
    Conv,
    GroupNorm,
    Linear,
    by_frame,
    endless,
    from_options,
    nearest,
    read,
    wanted,
    write,
)
from diorama.interop.tensors import Tensors


@dataclass(frozen=True)
class AutoencoderKLConfig:
    """Options of diffusers' `AutoencoderKL`, by its names and with its defaults.

    Args:
        in_channels, out_channels: of the media.
        down_block_types, up_block_types: one a level; only the convolutional kind that published models have.
        block_out_channels: width of each level, from full resolution down.
        layers_per_block: residual blocks a level of the encoder; the decoder has one more.
        act_fn: activation of the residual blocks.
        latent_channels: numbers a latent cell.
        norm_num_groups: groups of each norm; they divide every width.
        sample_size, force_upcast: kept for diffusers, which tiles and casts by them; nothing here depends on them.
        scaling_factor, shift_factor, latents_mean, latents_std: what makes latents about zero mean and unit variance,
            (z - shift - mean) * scaling / std. They are of weights that exist: a run that trains measures its own.
        use_quant_conv, use_post_quant_conv: a 1 x 1 convolution after the encoder, and before the decoder.
        mid_block_add_attention: self-attention at the lowest resolution.
    """

    in_channels: int = 3
    out_channels: int = 3
    down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",)
    up_block_types: tuple[str, ...] = ("UpDecoderBlock2D",)
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    act_fn: str = "silu"
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int | tuple[int, ...] = 32
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[float, ...] | None = None
    force_upcast: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        for name, kinds, known in (
            ("down_block_types", self.down_block_types, "DownEncoderBlock2D"),
            ("up_block_types", self.up_block_types, "UpDecoderBlock2D"),
        ):
            if other := sorted(set(kinds) - {known}):
                raise UserError(f"AutoencoderKL with {name} {', '.join(other)} is not known here, only {known}")
            if len(kinds) != levels:
                raise UserError(f"AutoencoderKL has {len(kinds)} {name} for {levels} block_out_channels")
        if self.act_fn not in ACTIVATIONS:
            raise UserError(
                f"AutoencoderKL with act_fn '{self.act_fn}' is not known here: {', '.join(ACTIVATIONS)} are"
            )
        sizes = (*self.block_out_channels, self.layers_per_block, self.latent_channels, self.in_channels)
        if not levels or min(*sizes, self.out_channels, self.norm_num_groups) < 1:
            raise UserError("AutoencoderKL's widths, layers, channels and groups are whole numbers from 1")
        if wrong := [width for width in self.block_out_channels if width % self.norm_num_groups]:
            raise UserError(f"norm_num_groups={self.norm_num_groups} does not divide the width {wrong[0]}")
        if (self.latents_mean is None) != (self.latents_std is None):
            raise UserError("latents_mean and latents_std go together: give both or neither")

    @staticmethod
    def from_dict(options: Mapping[str, Any]) -> "AutoencoderKLConfig":
        """Of a `config.json`. Raises `UserError` that names options or values that are not known here."""
        return from_options(AutoencoderKLConfig, options)

    def to_dict(self) -> dict[str, Any]:
        """What `config.json` holds."""
        return {"_class_name": "AutoencoderKL", **asdict(self)}

    @property
    def spatial(self) -> int:
        """Pixels along each side of a latent cell."""
        return 2 ** (len(self.block_out_channels) - 1)

    @property
    def temporal(self) -> int:
        """Frames a latent frame: every frame is coded alone."""
        return 1

    @property
    def channels(self) -> int:
        """Numbers a latent cell."""
        return self.latent_channels

    @property
    def media_channels(self) -> int:
        """Of the media (3 for RGB)."""
        return self.in_channels

    def init(self, key: Key, bottleneck: KL = KL()) -> "AutoencoderKL":  # noqa: B008 (it is frozen)
        """A new one, each residual branch starting at zero, for `codec.Reconstruction(config)` to train."""
        keys = endless(key)
        return AutoencoderKL(Encoder.init(keys, self), Decoder.init(keys, self), Gaussian(bottleneck), self)

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the arrays in a file."""
        return wanted(jax.eval_shape(self.init, jax.random.key(0)), _name)

    def build(self, tensors: Tensors) -> "AutoencoderKL":
        """That of a file. What does not match is noted in `tensors`, whose `finish` says so."""
        _modernise(tensors)
        return read(jax.eval_shape(self.init, jax.random.key(0)), tensors, _name)


_OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def _modernise(tensors: Tensors) -> None:
    """Name and shape attention as it is today: it once was `query`, and before that a 1 x 1 convolution."""
    arrays = {}
    for old, array in tensors.arrays.items():
        name = re.sub(r"(attentions\.\d+)\.(query|key|value|proj_attn)\.", lambda m: f"{m[1]}.{_OLD[m[2]]}.", old)
        if name != old and name in tensors.arrays:
            raise UserError(f"{tensors.where} holds both {old} and {name}, which are one array: take one out")
        matrix = re.search(r"attentions\.\d+\.to_(q|k|v|out\.0)\.weight$", name)
        arrays[name] = array[..., 0, 0] if matrix and array.shape[2:] == (1, 1) else array
    tensors.arrays = arrays


def _name(path: str) -> str:
    """A parameter's name in diffusers, where two convolutions of ours lie outside of encoder and decoder."""
    return re.sub(r"^(en|de)coder\.((post_)?quant_conv\.)", r"\2", path)


class Resnet(Module):
    """Two 3 x 3 convolutions, each after norm and activation, beside the input (or its 1 x 1 projection)."""

    norm1: GroupNorm
    conv1: Conv
    norm2: GroupNorm
    conv2: Conv
    conv_shortcut: Conv | None
    activation: str = static()

    @staticmethod
    def init(keys: Iterator[Key], inputs: int, outputs: int, config: AutoencoderKLConfig) -> "Resnet":
        return Resnet(
            GroupNorm.init(inputs, config.norm_num_groups),
            Conv.init(next(keys), inputs, outputs),
            GroupNorm.init(outputs, config.norm_num_groups),
            Conv.init(next(keys), outputs, outputs, scale=0.0),
            None if inputs == outputs else Conv.init(next(keys), inputs, outputs, size=1),
            config.act_fn,
        )

    def __call__(self, x: Float[Array, "n h w i"]) -> Float[Array, "n h w o"]:
        act = ACTIVATIONS[self.activation]
        y = self.conv2(act(self.norm2(self.conv1(act(self.norm1(x))))))
        return y + (x if self.conv_shortcut is None else self.conv_shortcut(x))


QUERIES = 1024  # as many at once see all keys: a picture of 1024 x 1024 has 16384 of both


class Attention(Module):
    """Self-attention of one head over the positions of a frame, softmax in float32."""

    group_norm: GroupNorm
    to_q: Linear
    to_k: Linear
    to_v: Linear
    to_out: list[Linear]

    @staticmethod
    def init(keys: Iterator[Key], width: int, groups: int) -> "Attention":
        q, k, v = (Linear.init(next(keys), width, width) for _ in range(3))
        return Attention(GroupNorm.init(width, groups), q, k, v, [Linear.init(next(keys), width, width, scale=0.0)])

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        n, h, w, c = x.shape
        tokens = self.group_norm(x).reshape(n, h * w, c)
        query, key, value = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)

        def seen(one: Float[Array, "n c"]) -> Float[Array, "n c"]:
            score = jnp.einsum("nc,nlc->nl", one, key).astype(jnp.float32) / np.sqrt(c)
            return jnp.einsum("nl,nlc->nc", jax.nn.softmax(score).astype(value.dtype), value)

        out = jax.lax.map(seen, query.swapaxes(0, 1), batch_size=QUERIES).swapaxes(0, 1)
        return x + self.to_out[0](out).reshape(x.shape)


class Middle(Module):
    """Block, attention, block."""

    attentions: list[Attention]
    resnets: list[Resnet]

    @staticmethod
    def init(keys: Iterator[Key], config: AutoencoderKLConfig) -> "Middle":
        width = config.block_out_channels[-1]
        attention = [Attention.init(keys, width, config.norm_num_groups)] if config.mid_block_add_attention else []
        return Middle(attention, [Resnet.init(keys, width, width, config) for _ in range(2)])

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class Resampler(Module):
    """The convolution that follows doubling, or that halves."""

    conv: Conv


class Down(Module):
    """A level of the encoder; all but the last halve the sides, with zeros below and at the right only."""

    resnets: list[Resnet]
    downsamplers: list[Resampler]

    @staticmethod
    def init(keys: Iterator[Key], inputs: int, width: int, last: bool, config: AutoencoderKLConfig) -> "Down":
        widths = (inputs, *(width,) * config.layers_per_block)
        resnets = [Resnet.init(keys, i, o, config) for i, o in pairwise(widths)]
        return Down(resnets, [] if last else [Resampler(Conv.init(next(keys), width, width, stride=2, edge=(0, 1)))])

    def __call__(self, x: Float[Array, "n h w i"]) -> Float[Array, "n h2 w2 o"]:
        for resnet in self.resnets:
            x = resnet(x)
        for halve in self.downsamplers:
            x = halve.conv(x)
        return x


class Up(Module):
    """A level of the decoder; all but the last double the sides."""

    resnets: list[Resnet]
    upsamplers: list[Resampler]

    @staticmethod
    def init(keys: Iterator[Key], inputs: int, width: int, last: bool, config: AutoencoderKLConfig) -> "Up":
        widths = (inputs, *(width,) * (config.layers_per_block + 1))
        resnets = [Resnet.init(keys, i, o, config) for i, o in pairwise(widths)]
        return Up(resnets, [] if last else [Resampler(Conv.init(next(keys), width, width))])

    def __call__(self, x: Float[Array, "n h w i"]) -> Float[Array, "n h2 w2 o"]:
        for resnet in self.resnets:
            x = resnet(x)
        for double in self.upsamplers:
            x = double.conv(nearest(x))
        return x


class Encoder(Module):
    """Media to the mean and log-variance of the posterior, one beside the other in channels."""

    conv_in: Conv
    down_blocks: list[Down]
    mid_block: Middle
    conv_norm_out: GroupNorm
    conv_out: Conv
    quant_conv: Conv | None

    @staticmethod
    def init(keys: Iterator[Key], config: AutoencoderKLConfig) -> "Encoder":
        widths, moments = config.block_out_channels, 2 * config.latent_channels
        levels = list(pairwise((widths[0], *widths)))
        return Encoder(
            Conv.init(next(keys), config.in_channels, widths[0]),
            [Down.init(keys, i, o, n == len(levels), config) for n, (i, o) in enumerate(levels, 1)],
            Middle.init(keys, config),
            GroupNorm.init(widths[-1], config.norm_num_groups),
            Conv.init(next(keys), widths[-1], moments),
            Conv.init(next(keys), moments, moments, size=1) if config.use_quant_conv else None,
        )

    def __call__(self, media: Media) -> Float[Array, "b t h2 w2 c2"]:
        return by_frame(self.frames, media)

    def frames(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c2"]:
        """The same for frames."""
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        x = self.conv_out(jax.nn.silu(self.conv_norm_out(self.mid_block(x))))
        return x if self.quant_conv is None else self.quant_conv(x)


class Decoder(Module):
    """Latents to media, not clipped."""

    post_quant_conv: Conv | None
    conv_in: Conv
    mid_block: Middle
    up_blocks: list[Up]
    conv_norm_out: GroupNorm
    conv_out: Conv

    @staticmethod
    def init(keys: Iterator[Key], config: AutoencoderKLConfig) -> "Decoder":
        widths, latent = config.block_out_channels[::-1], config.latent_channels
        levels = list(pairwise((widths[0], *widths)))
        return Decoder(
            Conv.init(next(keys), latent, latent, size=1) if config.use_post_quant_conv else None,
            Conv.init(next(keys), latent, widths[0]),
            Middle.init(keys, config),
            [Up.init(keys, i, o, n == len(levels), config) for n, (i, o) in enumerate(levels, 1)],
            GroupNorm.init(widths[-1], config.norm_num_groups),
            Conv.init(next(keys), widths[-1], config.out_channels, scale=0.1),
        )

    def __call__(self, latents: Latents) -> Media:
        return by_frame(self.frames, latents)

    def frames(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c2"]:
        """The same for frames."""
        x = self.mid_block(self.conv_in(x if self.post_quant_conv is None else self.post_quant_conv(x)))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class AutoencoderKL(Module):
    """Encoder and decoder; `Codec` or `Pretrained` adds the latents' statistics."""

    encoder: Encoder
    decoder: Decoder
    bottleneck: Gaussian
    config: AutoencoderKLConfig = static()

    def draw(self, media: Media, ids: UInt32[Array, "b"], key: Key) -> Drawn:
        """Latents as training sees them: drawn from the posterior, with its divergence."""
        return self.bottleneck.draw(self.encoder(media), ids, key)

    def encode(self, media: Media) -> Latents:
        """The mean of the posterior; the sides of media are whole latent cells."""
        return self.bottleneck.settle(self.encoder(media))

    def settle(self, media: Media) -> Latents:
        """`encode`, by the name that `codec.Codec` has for it."""
        return self.encode(media)

    def decode(self, latents: Latents) -> Media:
        """Media, not clipped."""
        return self.decoder(latents)

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters by their names in diffusers, in its layout, float32."""
        return write(self, _name)
