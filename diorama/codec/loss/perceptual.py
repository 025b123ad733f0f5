"""The learned perceptual distance of R. Zhang et al. 2018, "The unreasonable effectiveness of deep features as a
perceptual metric" (LPIPS): how far apart two pictures are in the features of a classifier,

    d(x, y) = sum_l  mean_ij  sum_c  w_lc (f_lijc(x) - f_lijc(y))^2,     f_lij of length 1                       (1)

The networks are VGG16 and AlexNet as torchvision has them, the weights w those that were fitted to people's judgements.
Diorama ships neither: `Perceptual` reads them from files of the user's.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from diorama.codec.loss.term import Comparison, Term, rgb, unit
from diorama.core.array import Array, Float, Media
from diorama.core.errors import UserError
from diorama.core.module import Module, static

SHIFT = (-0.030, -0.088, -0.188)  # media in [-1, 1] to what the classifiers were trained on
SCALE = (0.458, 0.448, 0.450)


@dataclass(frozen=True)
class Layer:
    """One convolution of a trunk.

    index: among torchvision's `features`. pool: size of the maximum taken before it, with a stride of 2, or 0.
    read: whether its features (after the rectifier) are compared.
    """

    index: int
    inputs: int
    outputs: int
    size: int = 3
    stride: int = 1
    pad: int = 1
    pool: int = 0
    read: bool = True


TRUNKS: dict[str, tuple[Layer, ...]] = {
    "vgg16": (
        Layer(0, 3, 64, read=False),
        Layer(2, 64, 64),
        Layer(5, 64, 128, pool=2, read=False),
        Layer(7, 128, 128),
        Layer(10, 128, 256, pool=2, read=False),
        Layer(12, 256, 256, read=False),
        Layer(14, 256, 256),
        Layer(17, 256, 512, pool=2, read=False),
        Layer(19, 512, 512, read=False),
        Layer(21, 512, 512),
        Layer(24, 512, 512, pool=2, read=False),
        Layer(26, 512, 512, read=False),
        Layer(28, 512, 512),
    ),
    "alexnet": (
        Layer(0, 3, 64, size=11, stride=4, pad=2),
        Layer(3, 64, 192, size=5, pad=2, pool=3),
        Layer(6, 192, 384, pool=3),
        Layer(8, 384, 256),
        Layer(10, 256, 256),
    ),
}


class Trunk(Module):
    """A classifier's convolutions: pictures -> the features of five depths."""

    weights: list[Float[Array, "k k i o"]]
    biases: list[Float[Array, "o"]]
    layers: tuple[Layer, ...] = static()

    def __call__(self, pictures: Float[Array, "n h w 3"]) -> list[Float[Array, "n h2 w2 d"]]:
        """Features of pictures in [-1, 1]. Raises `UserError` for pictures too small for all five depths."""
        x, found = (pictures - jnp.array(SHIFT)) / jnp.array(SCALE), []
        for layer, weight, bias in zip(self.layers, self.weights, self.biases, strict=True):
            if min(x.shape[1:3]) + 2 * layer.pad < max(layer.size, layer.pool):
                raise UserError(f"pictures of {pictures.shape[1]} x {pictures.shape[2]} are too small for this network")
            if layer.pool:
                window, stride = (1, layer.pool, layer.pool, 1), (1, 2, 2, 1)
                x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, stride, "VALID")
            pad = ((layer.pad, layer.pad), (layer.pad, layer.pad))
            names = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, weight, (layer.stride,) * 2, pad, dimension_numbers=names)
            x = jax.nn.relu(x + bias)
            if layer.read:
                found.append(x)
        return found


class LPIPS(Comparison):
    """Equation (1), a mean over examples and frames. `heads` are the w of each depth."""

    trunk: Trunk
    heads: list[Float[Array, "d"]]

    def compare(self, again: Media, media: Media) -> Float[Array, ""]:
        return jnp.mean(self.distance(again, media))

    def distance(self, a: Media, b: Media) -> Float[Array, "b t"]:
        """The distance of each frame, in float32."""
        size = a.shape[:2]
        features = [self.trunk(_frames(x)) for x in (a, b)]
        total = jnp.zeros(size)
        for w, x, y in zip(self.heads, *features, strict=True):
            total += (jnp.square(unit(x) - unit(y)) @ w).mean((1, 2)).reshape(size)
        return total


class Perceptual(Comparison):
    """LPIPS with weights from files, which `init` reads; the log calls it `lpips`.

    trunk: "vgg16", which is usual for training, or "alexnet", which is faster and usual for judging.
    weights: a safetensors file with the convolutions under torchvision's names (`features.0.weight`,
        `features.0.bias`, ...) or those of the lpips package (`net.slice1.0.weight`, ...), and the heads, unless
        they are in a file of their own.
    heads: a safetensors file with `lin0.model.1.weight`, ..., `lin4.model.1.weight` (1, d, 1, 1), as the lpips package
        has them; "" if `weights` holds them.

    PyTorch's files become safetensors by `safetensors.torch.save_file(torch.load(file, weights_only=True), new)`.
    """

    weights: str = static()
    heads: str = static(default="")
    trunk: Literal["vgg16", "alexnet"] = static(default="vgg16")

    @property
    def name(self) -> str:
        return "lpips"

    def init(self, own: Path | None = None) -> Term:
        """Raises `UserError` where a file is missing, damaged or of another network; it lists what did not fit."""
        arrays = _read(self.weights)
        layers = TRUNKS[self.trunk]
        trunk = trunk_of(arrays, layers, self.weights)
        heads = heads_of(_read(self.heads) if self.heads else arrays, layers, self.heads or self.weights)
        return LPIPS(trunk, heads, weight=self.weight)


class TrunkFeatures(Module):
    """The deepest features of a trunk, for `Alignment`. weights, trunk: as of `Perceptual`."""

    weights: str = static()
    trunk: Literal["vgg16", "alexnet"] = static(default="vgg16")

    def init(self, own: Path | None = None) -> "Deepest":
        """Raises `UserError` where the file does not fit."""
        return Deepest(trunk_of(_read(self.weights), TRUNKS[self.trunk], self.weights))


class Deepest(Module):
    """Media (b, t, h, w, c) -> a trunk's last features (b, t, h2, w2, d)."""

    trunk: Trunk

    @property
    def width(self) -> int:
        return self.trunk.layers[-1].outputs

    def __call__(self, media: Media) -> Float[Array, "b t h2 w2 d"]:
        last = self.trunk(_frames(media))[-1]
        return last.reshape(*media.shape[:2], *last.shape[1:])


def trunk_of(arrays: dict[str, np.ndarray], layers: tuple[Layer, ...], source: str) -> Trunk:
    """The convolutions among `arrays`, which came from `source`. Raises `UserError` for what is missing or differs."""
    found = {}
    for name, array in arrays.items():
        if match := re.search(r"(?:^|\.)(?:features|slice\d+)\.(\d+)\.(weight|bias)$", name):
            found[int(match[1]), match[2]] = array
    want: dict = {(x.index, "weight"): (x.outputs, x.inputs, x.size, x.size) for x in layers}
    want |= {(x.index, "bias"): (x.outputs,) for x in layers}
    _fit({k: tuple(v.shape) for k, v in found.items()}, want, lambda k: f"features.{k[0]}.{k[1]}", source)
    weights = [jnp.asarray(found[x.index, "weight"].transpose(2, 3, 1, 0), jnp.float32) for x in layers]
    return Trunk(weights, [jnp.asarray(found[x.index, "bias"], jnp.float32) for x in layers], layers)


def heads_of(arrays: dict[str, np.ndarray], layers: tuple[Layer, ...], source: str) -> list[Array]:
    """The heads among `arrays`, which came from `source`. Raises `UserError` for what is missing or differs."""
    found = {}
    for name, array in arrays.items():
        if match := re.search(r"(?:^|\.)lins?\.?(\d)\.model\.\d\.weight$", name):
            found[int(match[1])] = array
    want = {i: (1, x.outputs, 1, 1) for i, x in enumerate(x for x in layers if x.read)}
    _fit({k: tuple(v.shape) for k, v in found.items()}, want, lambda k: f"lin{k}.model.1.weight", source)
    return [jnp.asarray(found[i].reshape(-1), jnp.float32) for i in want]


def _fit(have: dict, want: dict, name: Callable[[Any], str], source: str) -> None:
    wrong = [
        f"{name(k)} {shape} (there: {have.get(k, 'missing')})" for k, shape in want.items() if have.get(k) != shape
    ]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise UserError(f"{source} does not hold this network's weights: it lacks {'; '.join(wrong[:4])}{more}")


def _read(path: str) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}") from None


def _frames(media: Media) -> Float[Array, "n h w 3"]:
    return rgb(media.astype(jnp.float32)).reshape(-1, *media.shape[2:4], 3)
