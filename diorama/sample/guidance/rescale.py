"""Guidance that keeps the contrast of what it guides."""

from dataclasses import dataclass

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.gaussian import Level, divide
from diorama.process.prediction import Prediction
from diorama.sample.guidance.guidance import Guidance, by_x0


@dataclass(frozen=True)
class Rescaled(Guidance):
    """Classifier-free guidance whose x0 is brought back by a share `phi` to the standard deviation of the strong x0.

    Lin et al. 2023 (arXiv 2305.08891, section 3.4), against overexposure; `phi` = 0 is `ClassifierFree`.
    """

    phi: float = 0.7

    def combine(self, strong: Prediction, weak: Prediction, extra: Array, at: Level, tau: Array) -> Prediction:
        led = strong.x0 + extra * (strong.x0 - weak.x0)
        ratio = divide(_spread(strong.x0), _spread(led), otherwise=1.0)
        return by_x0(strong, led * (1 + self.phi * (ratio - 1)) - strong.x0, at)


def _spread(x: Array) -> Array:
    return jnp.std(x, axis=(-3, -2, -1), keepdims=True)
