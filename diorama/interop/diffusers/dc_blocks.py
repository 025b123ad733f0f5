"""The blocks of the deep compression autoencoder (see `dc.py`), on frames `(n, h, w, c)`."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key
from diorama.core.module import Module, static
from diorama.interop.diffusers.blocks import (
    ACTIVATIONS,
    BatchNorm,
    Conv,
    Linear,
    RMSNorm,
    nearest,
    pixel_shuffle,
    pixel_unshuffle,
)

KINDS = ("ResBlock", "EfficientViTBlock")
NORMS: dict[str, Callable[[int], RMSNorm | BatchNorm]] = {"rms_norm": RMSNorm.init, "batch_norm": BatchNorm.init}


class ResBlock(Module):
    """Two 3 x 3 convolutions and a norm, beside the input."""

    conv1: Conv
    conv2: Conv
    norm: RMSNorm | BatchNorm
    activation: str = static()

    @staticmethod
    def init(keys: Iterator[Key], width: int, norm: str, activation: str) -> "ResBlock":
        conv1, conv2 = Conv.init(next(keys), width, width), Conv.init(next(keys), width, width, bias=False)
        return ResBlock(conv1, conv2, NORMS[norm](width), activation)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        return x + self.norm(self.conv2(ACTIVATIONS[self.activation](self.conv1(x))))


class Scale(Module):
    """Queries, keys and values gathered from a neighbourhood: a convolution a channel, and one a head's channels."""

    proj_in: Conv
    proj_out: Conv

    @staticmethod
    def init(keys: Iterator[Key], width: int, heads: int, size: int) -> "Scale":
        return Scale(
            Conv.init(next(keys), 3 * width, 3 * width, size, groups=3 * width, bias=False),
            Conv.init(next(keys), 3 * width, 3 * width, 1, groups=3 * heads, bias=False),
        )

    def __call__(self, qkv: Float[Array, "n h w c3"]) -> Float[Array, "n h w c3"]:
        return self.proj_out(self.proj_in(qkv))


class MultiscaleAttention(Module):
    """Linear attention with a rectified kernel: out = V relu(K)^T relu(Q) over its sum, in float32.

    diffusers takes the quadratic form where a frame has fewer positions than a head has channels; it is the same
    number in another order.
    """

    to_q: Linear
    to_k: Linear
    to_v: Linear
    to_qkv_multiscale: list[Scale]
    to_out: Linear
    norm_out: RMSNorm | BatchNorm
    head: int = static()

    @staticmethod
    def init(keys: Iterator[Key], width: int, head: int, sizes: tuple[int, ...], norm: str) -> "MultiscaleAttention":
        inner = width // head * head
        q, k, v = (Linear.init(next(keys), width, inner, bias=False) for _ in range(3))
        scales = [Scale.init(keys, inner, width // head, size) for size in sizes]
        out = Linear.init(next(keys), inner * (1 + len(sizes)), width, bias=False)
        return MultiscaleAttention(q, k, v, scales, out, NORMS[norm](width), head)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        n, h, w, _ = x.shape
        qkv = jnp.concatenate([self.to_q(x), self.to_k(x), self.to_v(x)], axis=-1)
        scales = jnp.concatenate([qkv, *(scale(qkv) for scale in self.to_qkv_multiscale)], axis=-1)
        heads = scales.astype(jnp.float32).reshape(n, h * w, -1, 3 * self.head)
        query, key, value = jnp.split(heads, 3, axis=-1)
        query, key = jax.nn.relu(query), jax.nn.relu(key)
        total = jnp.einsum("nlke,nke->nlk", query, key.sum(1))[..., None]
        seen = jnp.einsum("nlke,nkef->nlkf", query, jnp.einsum("nlke,nlkf->nkef", key, value))
        out = (seen / (total + 1e-15)).astype(x.dtype).reshape(n, h, w, -1)
        return x + self.norm_out(self.to_out(out))


class GatedConv(Module):
    """Four times the width, a 3 x 3 convolution a channel, one half gating the other, and back, beside the input."""

    conv_inverted: Conv
    conv_depth: Conv
    conv_point: Conv
    norm: RMSNorm

    @staticmethod
    def init(keys: Iterator[Key], width: int) -> "GatedConv":
        wide = 8 * width
        return GatedConv(
            Conv.init(next(keys), width, wide, 1),
            Conv.init(next(keys), wide, wide, groups=wide),
            Conv.init(next(keys), 4 * width, width, 1, bias=False),
            RMSNorm.init(width),
        )

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        value, gate = jnp.split(self.conv_depth(jax.nn.silu(self.conv_inverted(x))), 2, axis=-1)
        return x + self.norm(self.conv_point(value * jax.nn.silu(gate)))


class EfficientViTBlock(Module):
    """Attention across the frame, then the gated convolution."""

    attn: MultiscaleAttention
    conv_out: GatedConv

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        return self.conv_out(self.attn(x))


class Down(Module):
    """Half the sides: a convolution, beside 2 x 2 neighbours folded into channels and averaged."""

    conv: Conv
    outputs: int = static()
    shortcut: bool = static()

    @staticmethod
    def init(keys: Iterator[Key], inputs: int, outputs: int, kind: str, shortcut: bool = True) -> "Down":
        if kind == "conv":
            return Down(Conv.init(next(keys), inputs, outputs, stride=2), outputs, shortcut)
        return Down(Conv.init(next(keys), inputs, outputs // 4), outputs, shortcut)

    def __call__(self, x: Float[Array, "n h w i"]) -> Float[Array, "n h2 w2 o"]:
        y = self.conv(x) if self.conv.stride == 2 else pixel_unshuffle(self.conv(x))
        return y + averaged(pixel_unshuffle(x), self.outputs) if self.shortcut else y


class Up(Module):
    """Twice the sides: a convolution, beside channels repeated and unfolded into 2 x 2 neighbours."""

    conv: Conv
    outputs: int = static()
    interpolate: bool = static()
    shortcut: bool = static()

    @staticmethod
    def init(keys: Iterator[Key], inputs: int, outputs: int, kind: str, shortcut: bool = True) -> "Up":
        interpolate = kind == "interpolate"
        conv = Conv.init(next(keys), inputs, outputs if interpolate else 4 * outputs)
        return Up(conv, outputs, interpolate, shortcut)

    def __call__(self, x: Float[Array, "n h w i"]) -> Float[Array, "n h2 w2 o"]:
        y = self.conv(nearest(x)) if self.interpolate else pixel_shuffle(self.conv(x))
        return y + pixel_shuffle(repeated(x, 4 * self.outputs)) if self.shortcut else y


def averaged(x: Float[Array, "n h w i"], channels: int) -> Float[Array, "n h w o"]:
    """Neighbouring channels averaged, down to `channels`."""
    return x.reshape(*x.shape[:-1], channels, -1).mean(-1)


def repeated(x: Float[Array, "n h w i"], channels: int) -> Float[Array, "n h w o"]:
    """Each channel repeated, up to `channels`."""
    return jnp.repeat(x, channels // x.shape[-1], axis=-1)


def blocks_of(
    keys: Iterator[Key],
    kind: str,
    width: int,
    layers: int,
    sizes: tuple[int, ...],
    norm: str,
    activation: str,
    head: int,
) -> list[ResBlock | EfficientViTBlock]:
    """The blocks of a level."""

    def one() -> ResBlock | EfficientViTBlock:
        if kind == "ResBlock":
            return ResBlock.init(keys, width, norm, activation)
        attention = MultiscaleAttention.init(keys, width, head, sizes, norm)
        return EfficientViTBlock(attention, GatedConv.init(keys, width))

    return [one() for _ in range(layers)]
