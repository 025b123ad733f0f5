"""Densities: which noise times a model is trained on. How much each counts is a weighting, a separate object.

A density is its cumulative distribution and the inverse of it; samples are quantiles of uniform numbers, spread over
the batch (`stratified`) or drawn one by one from the example's id (`sample`).
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logit
from jax.scipy.stats import norm

from diorama.core.array import Array, Key, Shape
from diorama.core.errors import UserError
from diorama.core.random import uniform
from diorama.process.gaussian import Process

A = TypeVar("A", Array, np.ndarray)

EDGE = 1e-6  # quantiles stay this far inside (0, 1): the ends are tau = 0 and 1, where weights have poles


def shifted(tau: A, shift: float) -> A:
    """tau moved towards noise: S tau / (1 + (S - 1) tau) (Esser et al. 2024, arXiv 2403.03206); 1/S undoes S."""
    return shift * tau / (1 + (shift - 1) * tau)


def shift_for(numbers: int, base: int = 4096) -> float:
    """The shift for clips of `numbers` values (t h w c): sqrt(numbers / base) (RAE, arXiv 2510.11690).

    The more values tell of the same content, the more noise hides it. Train and sample with the same shift.
    """
    return math.sqrt(numbers / base)


@dataclass(frozen=True)
class Density:
    """A distribution of tau on [0, 1]."""

    def cdf(self, process: Process, tau: Array) -> Array:
        """Probability of a noise time below `tau`."""
        raise NotImplementedError

    def quantile(self, process: Process, u: Array) -> Array:
        """The inverse of `cdf`: the noise time below which a share `u` in (0, 1) lies."""
        raise NotImplementedError

    def pdf(self, process: Process, tau: Array) -> Array:
        """Density at `tau`, with respect to tau."""
        return jax.jvp(lambda t: self.cdf(process, t), (tau,), (jnp.ones_like(tau),))[1]

    def sample(self, process: Process, key: Key, ids: Array, shape: Shape = ()) -> Array:
        """Independent noise times (b, *shape), from each example's id; shape (t,) gives every frame its own."""
        return self.quantile(process, jnp.clip(uniform(key, ids, shape), EDGE, 1 - EDGE))

    def stratified(self, process: Process, key: Key, b: int) -> Array:
        """Noise times (b,), one in each of b equally likely strata: less variance for nothing (2107.00630, I.1)."""
        u = (jax.random.uniform(key) + jnp.arange(b) / b) % 1
        return self.quantile(process, jnp.clip(u, EDGE, 1 - EDGE))


@dataclass(frozen=True)
class Uniform(Density):
    """Every tau alike, then shifted."""

    shift: float = 1.0

    def cdf(self, process: Process, tau: Array) -> Array:
        return shifted(tau, 1 / self.shift)

    def quantile(self, process: Process, u: Array) -> Array:
        return shifted(u, self.shift)


@dataclass(frozen=True)
class LogitNormal(Density):
    """logit(tau) ~ N(mean, std^2), then shifted; (0, 1) is SD3's (2403.03206)."""

    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0

    def cdf(self, process: Process, tau: Array) -> Array:
        return norm.cdf((logit(shifted(tau, 1 / self.shift)) - self.mean) / self.std)

    def quantile(self, process: Process, u: Array) -> Array:
        return shifted(jax.nn.sigmoid(self.mean + self.std * norm.ppf(u)), self.shift)


@dataclass(frozen=True)
class LogNormal(Density):
    """log(sigma/alpha) ~ N(mean, std^2): EDM's (-1.2, 1.2) (2206.00364), EDM2's (-0.4, 1.0).

    Noise levels beyond the process's end become tau = 1.
    """

    mean: float = -1.2
    std: float = 1.2

    def cdf(self, process: Process, tau: Array) -> Array:
        return norm.cdf((-process.logsnr(tau) / 2 - self.mean) / self.std)

    def quantile(self, process: Process, u: Array) -> Array:
        return jnp.minimum(process.tau_of_logsnr(-2 * (self.mean + self.std * norm.ppf(u))), 1.0)


@dataclass(frozen=True)
class UniformLogSNR(Density):
    """Every logsnr between `low` and `high` alike (VDM, Kingma et al. 2021, 2107.00630, with fixed ends).

    Levels beyond the process's end become tau = 1.
    """

    low: float = -10.0
    high: float = 10.0

    def cdf(self, process: Process, tau: Array) -> Array:
        return jnp.clip((self.high - process.logsnr(tau)) / (self.high - self.low), 0.0, 1.0)

    def quantile(self, process: Process, u: Array) -> Array:
        return jnp.minimum(process.tau_of_logsnr(self.high - u * (self.high - self.low)), 1.0)


@dataclass(frozen=True)
class Spectral(Density):
    """Equal time for each octave of frequencies: `levels` are the logsnr at which octave after octave drowns in noise.

    They fall: the finest frequencies first. Between two neighbours every logsnr is alike; see `spectral` for a fit.
    Levels beyond the process's end become tau = 1.
    """

    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        falls = all(a > b for a, b in pairwise(self.levels))
        if len(self.levels) < 2 or not falls or not all(map(math.isfinite, self.levels)):
            raise UserError(f"levels={self.levels}: two or more finite values of logsnr that fall")

    def cdf(self, process: Process, tau: Array) -> Array:
        return jnp.interp(-process.logsnr(tau), -jnp.asarray(self.levels), self._shares())

    def quantile(self, process: Process, u: Array) -> Array:
        return jnp.minimum(process.tau_of_logsnr(jnp.interp(u, self._shares(), jnp.asarray(self.levels))), 1.0)

    def _shares(self) -> Array:
        return jnp.linspace(0.0, 1.0, len(self.levels))


def spectral(power: np.ndarray) -> Spectral:
    """The density that a spectrum asks for: `power` (k,) of one to k cycles, as `rapsd` gives it, mean over channels.

    A frequency stands above the noise while alpha^2 P > sigma^2, so it drowns at logsnr = -log P. The octaves' edges
    are k, k/2, k/4, ... 1 cycles; where power does not fall from one to the next, they are taken together.
    Raises `UserError` for fewer than two octaves that differ.
    """
    cycles = len(power) / 2.0 ** np.arange(int(np.log2(len(power))) + 1)
    with np.errstate(divide="ignore"):  # no power at all: refused as a level that is not finite
        edges = -np.log(np.interp(cycles, np.arange(1, len(power) + 1), power))
    kept = [edges[0]]
    for edge in edges[1:]:
        if edge < kept[-1]:
            kept.append(edge)
    return Spectral(tuple(float(edge) for edge in kept))
