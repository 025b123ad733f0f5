"""The layers of `AutoencoderKLLTXVideo`."""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Float, Key
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.interop.diffusers.video_blocks import Conv3d, Source, fold, unfold
from diorama.net.layers import product


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


def residuals(
    source: Source, number: int, width: int, causal: bool, epsilon: float, timed: bool = False, noisy: bool = False
) -> list[Residual]:
    """The residual blocks of one level."""
    parts = [source["resnets"][i] for i in range(number)]
    return [Residual.read(part, width, width, causal, epsilon, timed, noisy) for part in parts]
