"""Grids: the noise times that a solver visits, from 1 (noise) down to 0 (data).

`grid(process, steps)` returns float64 (steps + 1,), strictly falling. The grid that goes with a training density is
the one that bears its name: use the same mean and std in both. A time shift is the process's (`process.Shifted`).
"""

import math
import sys
from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import expit, ndtr, ndtri
from scipy.stats import beta

from diorama.core.discover import any_of, kinds
from diorama.core.errors import UserError
from diorama.process import density
from diorama.process.gaussian import Process


@dataclass(frozen=True)
class Grid:
    """Noise times for any process and number of steps."""

    @classmethod
    def examples(cls) -> "tuple[Grid, ...]":
        """Settings worth comparing; none for a grid that is made for one run."""
        return (cls(),)

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class Uniform(Grid):
    """Even steps in tau."""

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        return np.linspace(1.0, 0.0, steps + 1)


@dataclass(frozen=True)
class LogitNormal(Grid):
    """Quantiles of the logit-normal density: the steps lie where training looked most.

    The normal is cut at two standard deviations and the times stretched to reach 1 and 0. Uncut, the end steps shrink
    so slowly with the number of steps that no solver reaches its order (measured: slope 0.7 for Heun, not 2).
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        density.positive(std=self.std)

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        u = np.linspace(ndtr(2.0), ndtr(-2.0), steps + 1)
        tau = expit(self.mean + self.std * ndtri(u))
        return (tau - tau[-1]) / (tau[0] - tau[-1])


@dataclass(frozen=True)
class Karras(Grid):
    """Even in (sigma/alpha)^(1/rho) from sigma_max to sigma_min, then 0 (arXiv 2206.00364, equation 5).

    The first time is 1 whatever sigma_max, for there the noise is drawn; a process that ends below sigma_max starts
    at its own end.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        _check_ends(self.sigma_min, self.sigma_max)
        density.positive(rho=self.rho)

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        top = _end(process, self.sigma_max) ** (1 / self.rho)
        return _by_noise(process, np.linspace(top, self.sigma_min ** (1 / self.rho), steps) ** self.rho)


@dataclass(frozen=True)
class LogSNR(Grid):
    """Even in logsnr, that is in log(sigma/alpha), from sigma_max to sigma_min, then 0; "exponential" in k-diffusion.

    The ends are as those of `Karras`.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _check_ends(self.sigma_min, self.sigma_max)

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        return _by_noise(process, np.geomspace(_end(process, self.sigma_max), self.sigma_min, steps))


@dataclass(frozen=True)
class Cosine(Grid):
    """(1 + cos(pi i / steps)) / 2: short steps at both ends."""

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        return (1 + np.cos(np.pi * np.arange(steps + 1) / steps)) / 2


@dataclass(frozen=True)
class Beta(Grid):
    """Quantiles of the beta distribution: short steps at both ends for a, b < 1 (Lee et al. 2024, arXiv 2407.12173)."""

    a: float = 0.6
    b: float = 0.6

    def __post_init__(self) -> None:
        density.positive(a=self.a, b=self.b)

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        return beta.ppf(np.linspace(1.0, 0.0, steps + 1), self.a, self.b)


@dataclass(frozen=True)
class Spectral(Grid):
    """Quantiles of the density `Spectral`: as many steps for each octave of the data's frequencies."""

    levels: tuple[float, ...]
    tail: float = 0.1

    def __post_init__(self) -> None:
        density.Spectral(self.levels, self.tail)  # checks them

    @classmethod
    def examples(cls) -> tuple[Grid, ...]:
        return ()

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        law = density.Spectral(self.levels, self.tail)
        with jax.ensure_compile_time_eval():
            top = float(law.cdf(process, jnp.ones(())))  # a process may end before the law does
            taus = np.asarray(law.quantile(process, jnp.linspace(top, 0.0, steps + 1)[1:-1]), np.float64)
        return np.concatenate([[1.0], taus, [0.0]])


@dataclass(frozen=True)
class FromSpectrum(Grid):
    """Stands in a recipe for `Spectral` of the run's own latents, as the density of that name does."""

    tail: float = 0.1

    def __post_init__(self) -> None:
        density.check_tail(self.tail)

    @classmethod
    def examples(cls) -> tuple[Grid, ...]:
        return ()

    def fitted(self, power: np.ndarray) -> Spectral:
        """The grid that stands in its place, of a spectrum as `density.spectral` takes it."""
        return Spectral(density.spectral(power, self.tail).levels, self.tail)

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        raise UserError("the grid FromSpectrum is known when the run's latents are: train the run first")


@dataclass(frozen=True)
class Fitted(Grid):
    """Given noise times, such as `diorama tune` finds: `taus` from 1 down to 0, for the process that they are of.

    Another number of steps is interpolated by a monotone cubic in tau.
    """

    taus: tuple[float, ...]

    def __post_init__(self) -> None:
        falls = all(a > b for a, b in pairwise(self.taus)) and all(map(math.isfinite, self.taus))
        if len(self.taus) < 2 or not falls or self.taus[0] != 1 or self.taus[-1] != 0:
            raise UserError(f"taus={self.taus}: noise times fall from 1 to 0")

    @classmethod
    def examples(cls) -> tuple[Grid, ...]:
        return ()

    def __call__(self, process: Process, steps: int) -> np.ndarray:
        if steps == len(self.taus) - 1:
            return np.asarray(self.taus, np.float64)
        between = PchipInterpolator(np.linspace(0.0, 1.0, len(self.taus)), self.taus)
        return np.concatenate([[1.0], between(np.arange(1, steps) / steps), [0.0]])


def _check_ends(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max:
        raise UserError(f"sigma_min={sigma_min}, sigma_max={sigma_max}: noise falls to sigma_min, which is above 0")


def _end(process: Process, sigma_max: float) -> float:
    """sigma/alpha where the process ends, at most `sigma_max`."""
    with jax.ensure_compile_time_eval():
        return min(sigma_max, float(np.exp(-np.asarray(process.logsnr(jnp.ones(())), np.float64) / 2)))


def _by_noise(process: Process, sigma: np.ndarray) -> np.ndarray:
    """Noise times of sigma/alpha that falls: the first is 1, for there the noise is drawn, and 0 is put at the end."""
    with jax.ensure_compile_time_eval():
        tau = np.asarray(process.tau_of_logsnr(jnp.asarray(-2 * np.log(sigma))), np.float64)
    return np.concatenate([[1.0], tau[1:], [0.0]])


GRIDS = kinds([sys.modules[__name__]], Grid)
AnyGrid = any_of(GRIDS)  # what a run's configuration may name
