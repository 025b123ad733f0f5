"""Grids: the noise times that a solver visits, from 1 (noise) down to 0 (data).

`grid(process, steps)` returns float64 (steps + 1,), strictly falling. The grid that goes with a training density is
the one that bears its name: use the same mean, std and shift in both.
"""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, ndtr, ndtri
from scipy.stats import beta

from diorama.process.density import shifted
from diorama.process.gaussian import Process


class Grid(Protocol):
    """Noise times for any process and number of steps."""

    def __call__(self, process: Process, steps: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Uniform:
    """Even steps in tau."""

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        return np.linspace(1.0, 0.0, steps + 1)


@dataclass(frozen=True)
class Shifted:
    """Even steps, shifted towards noise by S > 1: S t / (1 + (S - 1) t) (arXiv 2403.03206); see `density.shift_for`."""

    shift: float = 3.0

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        return shifted(np.linspace(1.0, 0.0, steps + 1), self.shift)


@dataclass(frozen=True)
class LogitNormal:
    """Quantiles of the logit-normal density, then shifted: the steps lie where training looked most.

    The normal is cut at two standard deviations and the times stretched to reach 1 and 0. Uncut, the end steps shrink
    so slowly with the number of steps that no solver reaches its order (measured: slope 0.7 for Heun, not 2).
    """

    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        u = np.linspace(ndtr(2.0), ndtr(-2.0), steps + 1)
        tau = expit(self.mean + self.std * ndtri(u))
        return shifted((tau - tau[-1]) / (tau[0] - tau[-1]), self.shift)


@dataclass(frozen=True)
class Karras:
    """Even in (sigma/alpha)^(1/rho) from sigma_max to sigma_min, then 0 (arXiv 2206.00364, equation 5).

    The first time is 1 whatever sigma_max, for there the noise is drawn; a process that ends below sigma_max starts
    at its own end.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        top = _end(process, self.sigma_max) ** (1 / self.rho)
        return _by_noise(process, np.linspace(top, self.sigma_min ** (1 / self.rho), steps) ** self.rho)


@dataclass(frozen=True)
class LogSNR:
    """Even in logsnr, that is in log(sigma/alpha), from sigma_max to sigma_min, then 0; "exponential" in k-diffusion.

    The ends are as those of `Karras`.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        return _by_noise(process, np.geomspace(_end(process, self.sigma_max), self.sigma_min, steps))


@dataclass(frozen=True)
class Cosine:
    """(1 + cos(pi i / steps)) / 2: short steps at both ends."""

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        return (1 + np.cos(np.pi * np.arange(steps + 1) / steps)) / 2


@dataclass(frozen=True)
class Beta:
    """Quantiles of the beta distribution: short steps at both ends for a, b < 1 (Lee et al. 2024, arXiv 2407.12173)."""

    a: float = 0.6
    b: float = 0.6

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        return beta.ppf(np.linspace(1.0, 0.0, steps + 1), self.a, self.b)


def _end(process: Process, sigma_max: float) -> float:
    """sigma/alpha where the process ends, at most `sigma_max`."""
    with jax.ensure_compile_time_eval():
        return min(sigma_max, float(np.exp(-np.asarray(process.logsnr(jnp.ones(())), np.float64) / 2)))


def _by_noise(process: Process, sigma: np.ndarray) -> np.ndarray:
    """Noise times of sigma/alpha that falls: the first is 1, for there the noise is drawn, and 0 is put at the end."""
    with jax.ensure_compile_time_eval():
        tau = np.asarray(process.tau_of_logsnr(jnp.asarray(-2 * np.log(sigma))), np.float64)
    return np.concatenate([[1.0], tau[1:], [0.0]])
