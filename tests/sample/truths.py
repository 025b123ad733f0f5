"""Denoisers that know the truth (`diorama.evaluate.truth`), and solvers on given noise, as the tests ask for them."""

from collections.abc import Callable

import jax
import numpy as np

from diorama.evaluate.lab.march import march, order
from diorama.evaluate.truth import Gaussian, Mixture, Wiener
from diorama.process import Prediction, Process

__all__ = ["field", "gaussian", "gaussian_map", "march", "mixture", "order"]


def gaussian(process: Process, mean: float = 0.0, variance: jax.Array | float = 1.0) -> Callable:
    """x0 ~ N(mean, variance), everywhere alike; conditions, where given, are each example's variance (b,)."""

    def denoise(x, tau, conditions=None):
        own = variance if conditions is None else conditions.reshape(-1, *(1,) * (x.ndim - 1))
        return Gaussian(mean, own).denoiser(process)(x, tau)

    return denoise


def gaussian_map(process: Process, x, tau, tau_next, mean: float = 0.0, variance: float = 1.0):
    """Where the probability-flow ODE takes x (Gaussian data): algorithms 2.1.1 for any process."""
    return Gaussian(mean, variance).flow(process, x, tau, tau_next)


def mixture(process: Process, means: np.ndarray, std: float) -> Callable:
    """Equal Gaussians of standard deviation `std` about `means` (m, c), independent at every position."""
    return Mixture(means, std).denoiser(process)


def field(process: Process, power: np.ndarray) -> Callable:
    """A Gaussian random field of power spectrum `power` (h, w): the denoiser is a Wiener filter."""
    law = Wiener(0.0, power[:, :, None], (-3, -2))

    def denoise(x, tau, conditions=None):
        seen = law.look(x, process, tau)
        return Prediction(seen.x0, seen.epsilon)

    return denoise
