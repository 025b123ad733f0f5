"""What the video autoencoders of diffusers are made of, on clips `(b, t, h, w, c)`.

Their convolutions are over time and space at once and their names in the files follow no single rule, so every module
here is read by a `read(source, sizes)` of its own, `source` being the part of the file that belongs to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Bool, Float, Media
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.interop.diffusers.blocks import from_options
from diorama.interop.tensors import Tensors
from diorama.net.layers import product

T = TypeVar("T")
Edges = Literal["constant", "edge"]


@dataclass(frozen=True)
class Source:
    """The arrays of a file whose names begin with `prefix`."""

    tensors: Tensors
    prefix: str = ""

    def __getitem__(self, name: str | int) -> "Source":
        """What lies below `name`."""
        return Source(self.tensors, f"{self.prefix}{name}.")

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """The array `name`, of that shape in the file."""
        return self.tensors.take(self.prefix + name, shape)


class Conv3d(Module):
    """A convolution over frames, rows and columns.

    Args:
        stride: steps along time, height and width.
        frames: how many frames are added before and after the clip; with none after, frame t sees no later one.
        space: how many zeros are added before and after along each side of a frame.
        edges: what the added frames are: zeros ("constant") or the clip's first and last ("edge").
    """

    weight: Float[Array, "kt kh kw i o"]
    bias: Float[Array, "o"]
    stride: tuple[int, int, int] = static(default=(1, 1, 1))
    frames: tuple[int, int] = static(default=(0, 0))
    space: tuple[int, int] = static(default=(0, 0))
    edges: Edges = static(default="constant")

    @staticmethod
    def read(
        source: Source, inputs: int, outputs: int, size: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1),
        frames: tuple[int, int] = (0, 0), space: tuple[int, int] = (0, 0), edges: Edges = "constant",
    ) -> "Conv3d":  # fmt: skip
        weight = source.take("weight", (outputs, inputs, *size)).transpose(2, 3, 4, 1, 0)
        return Conv3d(weight, source.take("bias", (outputs,)), stride, frames, space, edges)

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t2 h2 w2 o"]:
        if any(self.frames):
            x = jnp.pad(x, ((0, 0), self.frames, (0, 0), (0, 0), (0, 0)), mode=self.edges)
        if self.weight.shape[0] == self.stride[0] == 1:
            return self._each_frame(x) + self.bias
        return (
            jax.lax.conv_general_dilated(
                x, self.weight, self.stride, ((0, 0), self.space, self.space),
                dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
            )
            + self.bias
        )  # fmt: skip

    def _each_frame(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h2 w2 o"]:
        """One that does not look along time: XLA's 2-D convolutions and products are faster than its 3-D ones."""
        if self.weight.shape[:3] == (1, 1, 1):
            return product(x, self.weight[0, 0, 0])
        b, t = x.shape[:2]
        y = jax.lax.conv_general_dilated(
            x.reshape(b * t, *x.shape[2:]), self.weight[0], self.stride[1:], (self.space, self.space),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return y.reshape(b, t, *y.shape[1:])


def conv2d(
    source: Source, inputs: int, outputs: int, size: int, stride: int = 1, space: tuple[int, int] = (0, 0)
) -> Conv3d:
    """A convolution of every frame alone, which the file keeps with two spatial axes only."""
    weight = source.take("weight", (outputs, inputs, size, size)).transpose(2, 3, 1, 0)[None]
    return Conv3d(weight, source.take("bias", (outputs,)), (1, stride, stride), space=space)


def attend(
    query: Float[Array, "... n c"], key: Float[Array, "... m c"], value: Float[Array, "... m c"],
    mask: Bool[Array, "n m"] | None = None,
) -> Float[Array, "... n c"]:  # fmt: skip
    """Attention of one head (Vaswani et al. 2017), its softmax in float32; `mask` is true where n may look at m."""
    scores = jnp.einsum("...nc,...mc->...nm", query, key).astype(jnp.float32) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    return jnp.einsum("...nm,...mc->...nc", jax.nn.softmax(scores, axis=-1).astype(value.dtype), value)


def fold(x: Float[Array, "b t h w c"], size: tuple[int, int, int]) -> Float[Array, "b t2 h2 w2 c2"]:
    """Fold blocks of `size` (frames, rows, columns) into channels; each channel's own numbers lie side by side."""
    (b, t, h, w, c), (p, q, r) = x.shape, size
    x = x.reshape(b, t // p, p, h // q, q, w // r, r, c)
    return x.transpose(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, t // p, h // q, w // r, c * p * q * r)


def unfold(x: Float[Array, "b t h w c"], size: tuple[int, int, int]) -> Float[Array, "b t2 h2 w2 c2"]:
    """The inverse of `fold`."""
    (b, t, h, w, c), (p, q, r) = x.shape, size
    x = x.reshape(b, t, h, w, c // (p * q * r), p, q, r)
    return x.transpose(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, t * p, h * q, w * r, c // (p * q * r))


def patches(media: Float[Array, "b t h w c"], size: int) -> Float[Array, "b t h2 w2 c2"]:
    """Fold `size` x `size` pixels into channels, columns before rows (the order that Wan and LTX have)."""
    return fold(media.swapaxes(2, 3), (1, size, size)).swapaxes(2, 3)


def pixels(x: Float[Array, "b t h w c"], size: int) -> Float[Array, "b t h2 w2 c2"]:
    """The inverse of `patches`."""
    return unfold(x.swapaxes(2, 3), (1, size, size)).swapaxes(2, 3)


def enlarge(x: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 c"]:
    """Every frame at twice the size: every pixel four times."""
    return jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)


class VideoConfig(Protocol):
    """What `check_media` asks of a configuration."""

    @property
    def spatial(self) -> int: ...

    @property
    def temporal(self) -> int: ...


def check_media(media: Media, config: VideoConfig, channels: int) -> None:
    """Raises `UserError` unless media are whole cells: 1 + k * temporal frames and sides that `spatial` divides."""
    _, t, h, w, c = media.shape
    if (t - 1) % config.temporal or h % config.spatial or w % config.spatial or c != channels or not t:
        raise UserError(
            f"media of {t} frames of {h} x {w} with {c} channels do not fit: this codec takes 1 + k * "
            f"{config.temporal} frames, sides that {config.spatial} divides, and {channels} channels"
        )


def video_options(kind: type[T], options: Mapping[str, Any]) -> T:
    """`from_options` for a class whose latents' statistics may not be left to a default.

    Their default in diffusers is that of one published model, so a file that is silent about them is refused.
    """
    if missing := [name for name in ("latents_mean", "latents_std") if name not in options]:
        raise UserError(f"the configuration lacks {' and '.join(missing)}: give numbers, or null for none")
    return from_options(kind, options)
