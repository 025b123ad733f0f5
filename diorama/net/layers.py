"""Layers on `(b, t, h, w, c)`: channels last, weights `(in, out)`, norms in float32.

Convolutions are factorised into space (frame by frame) and time (position by position): on two CPU cores XLA runs
2-D convolutions at the speed of a matrix product and 3-D ones at a third of it.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key
from diorama.core.layout import ambient, place, whole
from diorama.core.module import Module, static
from diorama.net.parallel import by_frame

Halves = Literal["in", "out"] | None  # which side of a layer tensor parallelism splits (`core/layout.py`)


class Linear(Module):
    """x W + b over the last axis."""

    weight: Float[Array, "i o"]
    bias: Float[Array, "o"]
    split: Halves = static(default=None)

    @staticmethod
    def init(key: Key, inputs: int, outputs: int, scale: float = 1.0, split: Halves = None) -> "Linear":
        """Normal weights of variance `scale^2 / inputs`; `scale=0` starts the layer at zero."""
        weight = scale / math.sqrt(inputs) * jax.random.normal(key, (inputs, outputs))
        return Linear(weight, jnp.zeros(outputs), split)

    @property
    def axes(self) -> dict[str, tuple[str | None, ...]]:
        """As of `core.layout.Split`."""
        inputs, outputs = ("tensor" if self.split == side else None for side in ("in", "out"))
        return {"weight": (inputs, outputs), "bias": (outputs,)}

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        y = product(x, whole(self.weight, *self.axes["weight"])) + self.bias
        return y if self.split is None else place(y, ..., "tensor" if self.split == "out" else None)


def product(x: Float[Array, "... i"], weight: Float[Array, "i o"]) -> Float[Array, "... o"]:
    """x W, all axes of `x` but the last made one.

    XLA's CPU compiler otherwise transposes the whole gradient of the output to form that of W: for 3072 positions,
    64 channels to 256, both gradients took 2.4 ms so and 0.8 ms flattened (docs/log.md).
    """
    if ambient():  # examples and tokens that lie on different devices cannot be one axis
        return x @ weight
    return (x.reshape(-1, x.shape[-1]) @ weight).reshape(*x.shape[:-1], weight.shape[-1])


class SpatialConv(Module):
    """A k x k convolution of every frame, zero padded, optionally strided."""

    weight: Float[Array, "k k i o"]
    bias: Float[Array, "o"]
    stride: int = static(default=1)

    @staticmethod
    def init(key: Key, inputs: int, outputs: int, size: int = 3, stride: int = 1, scale: float = 1.0) -> "SpatialConv":
        weight = scale / (size * math.sqrt(inputs)) * jax.random.normal(key, (size, size, inputs, outputs))
        return SpatialConv(weight, jnp.zeros(outputs), stride)

    @property
    def axes(self) -> dict[str, tuple[str | None, ...]]:
        return {"weight": (None,) * 4, "bias": ()}

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h w o"]:
        return convolve(x, whole(self.weight, None, None, None, None), self.stride) + self.bias


def convolve(x: Float[Array, "b t h w i"], weight: Float[Array, "k k i o"], stride: int = 1) -> Array:
    """Every frame by the kernel, zero padded."""
    frames = by_frame(x).reshape(-1, *x.shape[2:])
    y = jax.lax.conv_general_dilated(
        frames, weight, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return by_frame(y.reshape(*x.shape[:2], *y.shape[1:]))


class TemporalConv(Module):
    """A three-tap convolution along time at every position, as three matrix products.

    `causal`: frame t sees t-2, t-1, t; otherwise t-1, t, t+1. Frames outside the clip are zero, so the first frame
    of a causal one depends on itself alone.
    """

    weight: Float[Array, "3 i o"]
    causal: bool = static(default=True)

    @staticmethod
    def init(key: Key, inputs: int, outputs: int, causal: bool = True, scale: float = 1.0) -> "TemporalConv":
        return TemporalConv(scale / math.sqrt(3 * inputs) * jax.random.normal(key, (3, inputs, outputs)), causal)

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h w o"]:
        t, weight = x.shape[1], whole(self.weight, None, None, None)
        if t == 1:  # a still meets one tap only
            return product(x, weight[2 if self.causal else 1])
        past, future = (2, 0) if self.causal else (1, 1)
        padded = jnp.pad(x, ((0, 0), (past, future), (0, 0), (0, 0), (0, 0)))
        return sum(product(padded[:, i : i + t], weight[i]) for i in range(3))  # type: ignore[return-value]

    def chunk(
        self, x: Float[Array, "b t h w i"], past: Float[Array, "b 2 h w i"] | None
    ) -> tuple[Float[Array, "b t h w o"], Float[Array, "b 2 h w i"]]:
        """The next frames of a clip, with the two before them (None at its start), for a causal one: y and the last
        two frames of what was seen, for the next chunk."""
        zeros = jnp.zeros_like(x, shape=(x.shape[0], 2, *x.shape[2:]))
        seen = jnp.concatenate([zeros if past is None else past, x], axis=1)
        if past is None:
            return self(x), seen[:, -2:]
        y = sum(product(seen[:, i : i + x.shape[1]], self.weight[i]) for i in range(3))
        return y, seen[:, -2:]  # type: ignore[return-value]


class Norm(Module):
    """Root-mean-square norm over channels with a learned gain (Zhang & Sennrich 2019), position by position.

    It never mixes positions or frames, so causality in time and equality of chunked and whole are kept.
    """

    gain: Float[Array, "c"]

    @staticmethod
    def init(channels: int) -> "Norm":
        return Norm(jnp.ones(channels))

    @property
    def axes(self) -> dict[str, tuple[str | None, ...]]:
        return {"gain": ()}

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        return (rms(x) * self.gain.astype(jnp.float32)).astype(x.dtype)


def rms(x: Float[Array, "... c"]) -> Float[Array, "... c"]:
    """x over its root mean square along the last axis, in float32.

    Of a matrix's rows: XLA's CPU compiler reduces axes of higher ranks slowly. On a mesh they cannot be one axis.
    """
    rows = (x if ambient() else x.reshape(-1, x.shape[-1])).astype(jnp.float32)
    return (rows * jax.lax.rsqrt(jnp.mean(rows * rows, axis=-1, keepdims=True) + 1e-6)).reshape(x.shape)


def modulate(x: Array, scale: Float[Array, "b t c"], shift: Float[Array, "b t c"]) -> Array:
    """Scale and shift the channels of every frame of `x (b, t, ..., c)` (FiLM, adaptive layer norm)."""
    shape = (*scale.shape[:2], *(1,) * (x.ndim - 3), scale.shape[-1])
    return x * (1 + scale.reshape(shape)) + shift.reshape(shape)


def gate(x: Array, scale: Float[Array, "b t c"]) -> Array:
    """Scale the channels of every frame of `x (b, t, ..., c)` by 1 + `scale`."""
    return modulate(x, scale, jnp.zeros_like(scale))


def fourier(values: Float[Array, "..."], width: int, periods: tuple[float, float] = (0.01, 2.0)) -> Array:
    """Sines and cosines of `values` at `width / 2` log-spaced periods; `(..., width)` in float32."""
    period = jnp.geomspace(*periods, width // 2)
    angle = 2 * jnp.pi * values.astype(jnp.float32)[..., None] / period
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class NoiseLevel(Module):
    """The embedding of each frame's noise level: Fourier features and a two-layer perceptron."""

    hidden: Linear
    out: Linear

    @property
    def fixed(self) -> tuple[str, ...]:
        """As of `train.optimizer.Fixed`."""
        return ("hidden",)

    @staticmethod
    def init(key: Key, width: int) -> "NoiseLevel":
        k1, k2 = jax.random.split(key)
        return NoiseLevel(Linear.init(k1, 64, width), Linear.init(k2, width, width))

    def __call__(self, level: Float[Array, "b t"]) -> Float[Array, "b t d"]:
        features = fourier(level, 64).astype(self.hidden.weight.dtype)
        return self.out(jax.nn.silu(self.hidden(features)))


def space_to_depth(x: Float[Array, "b t h w c"], size: int) -> Float[Array, "b t h2 w2 c2"]:
    """Fold `size` x `size` neighbours into channels."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h // size, size, w // size, size, c)
    return x.transpose(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h // size, w // size, size * size * c)


def depth_to_space(x: Float[Array, "b t h w c"], size: int) -> Float[Array, "b t h2 w2 c2"]:
    """The inverse of `space_to_depth`."""
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h, w, size, size, c // (size * size))
    return x.transpose(0, 1, 2, 4, 3, 5, 6).reshape(b, t, h * size, w * size, c // (size * size))
