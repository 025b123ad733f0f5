"""Networks of a few thousand parameters, for tests."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.core.module import from_paths, paths
from diorama.net import LabelConfig, MagnitudeUNetConfig, TextConfig, TransformerConfig, UNetConfig

CHANNELS = 2
UNET = UNetConfig(widths=(8, 16), heads=2, width=16)
TRANSFORMER = TransformerConfig(width=16, depth=2, heads=2)
ATTENDING = {"attention": (1,), "middle": "factorised"}
NETS = {
    "unet": UNET,
    "factorised": replace(UNET, **ATTENDING),
    "magnitude": MagnitudeUNetConfig(widths=(8, 16), heads=2, width=16, **ATTENDING),
    "transformer": TRANSFORMER,
}
TEXT = TextConfig(vocabulary=257, length=5, heads=2)
LABEL = LabelConfig(classes=4)


def stirred(like: Any, seed: int = 0) -> Any:
    """The model `like` (it may be abstract) with random numbers in every parameter: layers that start at zero would
    hide what flows through them. Nothing is compiled."""
    rng = np.random.default_rng(seed)

    def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
        noise = rng.normal(size=shape)
        if name.endswith("gain"):
            return 1 + 0.2 * noise
        if name.endswith(("bias", "null")):
            return 0.2 * noise
        inputs = np.prod(shape[:-1]) if len(shape) == 4 else np.prod(shape[-2:-1])
        return noise if name.endswith("table") else noise / np.sqrt(inputs)

    return from_paths(like, {name: fill(name, x.shape) for name, x in paths(like).items()})


def made(init: Callable[[Any], Any], seed: int = 0) -> Any:
    """A stirred model of what `init(key)` makes."""
    return stirred(jax.eval_shape(init, jax.random.key(0)), seed)


def net_of(config: Any, **more: Any) -> Any:
    """A stirred network of `config`."""
    return made(lambda key: config.init(key, CHANNELS, **more))


def latents(b: int = 2, t: int = 3, h: int = 4, w: int = 4) -> Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=(b, t, h, w, CHANNELS)), jnp.float32)
