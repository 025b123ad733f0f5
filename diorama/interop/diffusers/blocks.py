"""What the autoencoders of diffusers are made of, on frames `(n, h, w, c)`.

A module's fields are named as in diffusers, so that a parameter's path here is its name in the file, and reading and
writing need no table of names: only the layout differs, `(in, out)` and HWIO here, `(out, in)` and OIHW there.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Float, Key
from diorama.core.config import flatten, parse
from diorama.core.errors import UserError
from diorama.core.module import Module, from_paths, paths, static
from diorama.interop.tensors import Tensors
from diorama.net.layers import product

T = TypeVar("T")

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "mish": jax.nn.mish,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "relu": jax.nn.relu,
}


def from_options(kind: type[T], options: Mapping[str, Any]) -> T:
    """The configuration of class `kind` with the `options` of a `config.json`; those left out are at their defaults.

    Raises `UserError` that names options that `kind` does not have, for they would change what is computed, and
    values of another type. Names that begin with an underscore tell of the file only.
    """
    told = {name: _tuples(value) for name, value in options.items() if not name.startswith("_")}
    unknown = sorted(set(told) - set(kind.__dataclass_fields__))  # type: ignore[attr-defined]
    if unknown:
        what = str(options.get("_class_name", kind.__name__))
        raise UserError(f"{what} has options that are not known here: {', '.join(unknown)}")
    lines = flatten(kind()) | {name: repr(value) for name, value in told.items()}
    return parse("".join(f"{name}: {value}\n" for name, value in lines.items()), kind)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def wanted(like: Any, named: Callable[[str], str] = str) -> dict[str, tuple[int, ...]]:
    """The arrays of `like` (it may be abstract) in diffusers: name and shape; `named` turns a path into a name."""
    return {named(p): tuple(x.shape[axis] for axis in _TO_TORCH[x.ndim]) for p, x in paths(like).items()}


def read(like: T, tensors: Tensors, named: Callable[[str], str] = str) -> T:
    """The module `like` (it may be abstract) with the arrays of a file."""
    taken = [np.asarray(tensors.take(name, shape)) for name, shape in wanted(like, named).items()]
    return from_paths(
        like, {p: x.transpose(np.argsort(_TO_TORCH[x.ndim])) for p, x in zip(paths(like), taken, strict=True)}
    )


def write(module: Any, named: Callable[[str], str] = str) -> dict[str, np.ndarray]:
    """The arrays of `module` by their names in diffusers and in its layout, float32: what `read` takes."""
    return {
        named(path): np.ascontiguousarray(np.asarray(leaf, np.float32).transpose(_TO_TORCH[leaf.ndim]))
        for path, leaf in paths(module).items()
    }


_TO_TORCH = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}  # by the number of axes: gains, products, convolutions


def endless(key: Key) -> Iterator[Key]:
    """As many keys as are asked for."""
    while True:  # many at once, because every split takes the compiler a while
        key, *some = jax.random.split(key, 64)
        yield from some


class Conv(Module):
    """A k x k convolution of `(n, h, w, i)`, with `edge` zeros (before, after) around and in `groups` of channels."""

    weight: Float[Array, "k k i o"]
    bias: Float[Array, "o"] | None
    stride: int = static(default=1)
    edge: tuple[int, int] = static(default=(1, 1))
    groups: int = static(default=1)

    @staticmethod
    def init(
        key: Key, inputs: int, outputs: int, size: int = 3, *, stride: int = 1, edge: tuple[int, int] | None = None,
        groups: int = 1, bias: bool = True, scale: float = 1.0,
    ) -> "Conv":  # fmt: skip
        """Normal weights of variance `scale^2 / fan-in`; `edge` keeps the size of the frame unless it is given."""
        each = inputs // groups
        weight = scale / (size * math.sqrt(each)) * jax.random.normal(key, (size, size, each, outputs))
        return Conv(weight, jnp.zeros(outputs) if bias else None, stride, edge or (size // 2, size // 2), groups)

    def __call__(self, x: Float[Array, "n h w i"]) -> Float[Array, "n h2 w2 o"]:
        y = jax.lax.conv_general_dilated(
            x, self.weight, (self.stride, self.stride), (self.edge, self.edge), feature_group_count=self.groups,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return y if self.bias is None else y + self.bias


class Linear(Module):
    """x W + b over the last axis; the bias may be absent."""

    weight: Float[Array, "i o"]
    bias: Float[Array, "o"] | None

    @staticmethod
    def init(key: Key, inputs: int, outputs: int, *, bias: bool = True, scale: float = 1.0) -> "Linear":
        weight = scale / math.sqrt(inputs) * jax.random.normal(key, (inputs, outputs))
        return Linear(weight, jnp.zeros(outputs) if bias else None)

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        y = product(x, self.weight)
        return y if self.bias is None else y + self.bias


class GroupNorm(Module):
    """Zero mean and unit variance over the positions of a frame and each group of channels (Wu & He 2018)."""

    weight: Float[Array, "c"]
    bias: Float[Array, "c"]
    groups: int = static()

    @staticmethod
    def init(channels: int, groups: int) -> "GroupNorm":
        return GroupNorm(jnp.ones(channels), jnp.zeros(channels), groups)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        n, h, w, c = x.shape
        grouped = x.astype(jnp.float32).reshape(n, h * w, self.groups, c // self.groups)
        centred = grouped - grouped.mean((1, 3), keepdims=True)
        normed = centred * jax.lax.rsqrt(jnp.mean(centred * centred, (1, 3), keepdims=True) + 1e-6)
        return _affine(normed.reshape(x.shape), self.weight, self.bias).astype(x.dtype)


class RMSNorm(Module):
    """Root-mean-square norm over channels with a gain and a bias (Zhang & Sennrich 2019)."""

    weight: Float[Array, "c"]
    bias: Float[Array, "c"]

    @staticmethod
    def init(channels: int) -> "RMSNorm":
        return RMSNorm(jnp.ones(channels), jnp.zeros(channels))

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        wide = x.astype(jnp.float32)
        normed = wide * jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + 1e-5)
        return _affine(normed, self.weight, self.bias).astype(x.dtype)


class BatchNorm(Module):
    """Batch norm (Ioffe & Szegedy 2015) with the statistics of its training, which stay as they are."""

    weight: Float[Array, "c"]
    bias: Float[Array, "c"]
    running_mean: Float[Array, "c"]
    running_var: Float[Array, "c"]

    @staticmethod
    def init(channels: int) -> "BatchNorm":
        return BatchNorm(jnp.ones(channels), jnp.zeros(channels), jnp.zeros(channels), jnp.ones(channels))

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... c"]:
        mean, variance = jax.lax.stop_gradient((self.running_mean, self.running_var))
        normed = (x.astype(jnp.float32) - mean) * jax.lax.rsqrt(variance.astype(jnp.float32) + 1e-5)
        return _affine(normed, self.weight, self.bias).astype(x.dtype)


def _affine(x: Array, weight: Array, bias: Array) -> Array:
    return x * weight.astype(jnp.float32) + bias.astype(jnp.float32)


def nearest(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Twice the size: every pixel four times."""
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def pixel_unshuffle(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c4"]:
    """Fold 2 x 2 neighbours into channels, each channel's four side by side (as in torch, unlike `space_to_depth`)."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(n, h // 2, w // 2, 4 * c)


def pixel_shuffle(x: Float[Array, "n h w c4"]) -> Float[Array, "n h2 w2 c"]:
    """The inverse of `pixel_unshuffle`."""
    n, h, w, c = x.shape
    return x.reshape(n, h, w, c // 4, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(n, 2 * h, 2 * w, c // 4)


def by_frame(
    call: Callable[[Float[Array, "n h w i"]], Float[Array, "n h2 w2 o"]], x: Float[Array, "b t h w i"]
) -> Float[Array, "b t h2 w2 o"]:
    """`call` on every frame of a clip, none seeing another."""
    y = call(x.reshape(-1, *x.shape[2:]))
    return y.reshape(*x.shape[:2], *y.shape[1:])
