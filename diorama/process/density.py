"""Densities: which noise times a model is trained on. How much each counts is a weighting, a separate object.

A density is its cumulative distribution and the inverse of it; samples are quantiles of uniform numbers, drawn one by
one from the example's id (`sample`) or spread over the batch (`stratified`).
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logit
from jax.scipy.stats import norm

from diorama.core.array import Array, Key, Shape
from diorama.core.errors import UserError
from diorama.core.random import uniform
from diorama.process.gaussian import Process

EDGE = 1e-6  # quantiles stay this far inside (0, 1): the ends are tau = 0 and 1, where weights have poles


def positive(**settings: float) -> None:
    """Raises `UserError` for a setting that is not above 0."""
    for name, value in settings.items():
        if not value > 0:
            raise UserError(f"{name} is above 0, not {value}")


def check_tail(tail: float) -> None:
    """Raises `UserError` where a spectrum's two tails leave no time between them."""
    if not 0 <= tail < 0.5:
        raise UserError(f"tail={tail}: the share of time beyond each end is at least 0 and below 0.5")


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

    def stratified(self, process: Process, key: Key, place: Array) -> Array:
        """Noise times (b,) of examples that lie at `place` (b,) = 0, 1/b, ... in their batch, in any order.

        One falls into each of b equally likely strata: less variance for nothing (2107.00630, I.1).
        """
        u = (jax.random.uniform(key) + place) % 1
        return self.quantile(process, jnp.clip(u, EDGE, 1 - EDGE))


@dataclass(frozen=True)
class Uniform(Density):
    """Every tau alike."""

    def cdf(self, process: Process, tau: Array) -> Array:
        return tau

    def quantile(self, process: Process, u: Array) -> Array:
        return u


@dataclass(frozen=True)
class LogitNormal(Density):
    """logit(tau) ~ N(mean, std^2); (0, 1) is SD3's (2403.03206)."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        positive(std=self.std)

    def cdf(self, process: Process, tau: Array) -> Array:
        return norm.cdf((logit(tau) - self.mean) / self.std)

    def quantile(self, process: Process, u: Array) -> Array:
        return jax.nn.sigmoid(self.mean + self.std * norm.ppf(u))


@dataclass(frozen=True)
class LogNormal(Density):
    """log(sigma/alpha) ~ N(mean, std^2): EDM's (-1.2, 1.2) (2206.00364), EDM2's (-0.4, 1.0).

    Noise levels beyond the process's end become tau = 1.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        positive(std=self.std)

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

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(f"low={self.low}, high={self.high}: the range of logsnr goes from low up to high")

    def cdf(self, process: Process, tau: Array) -> Array:
        return jnp.clip((self.high - process.logsnr(tau)) / (self.high - self.low), 0.0, 1.0)

    def quantile(self, process: Process, u: Array) -> Array:
        return jnp.minimum(process.tau_of_logsnr(self.high - u * (self.high - self.low)), 1.0)


@dataclass(frozen=True)
class Spectral(Density):
    """Equal time for each octave of frequencies: `levels` are the logsnr at which octave after octave drowns in noise.

    They fall: the finest frequencies first. Between two neighbours every logsnr is alike; see `spectral` for a fit.
    Beyond each end lies a share `tail` of the time, which thins out exponentially from the octaves' mean density: a
    model has to know the noise that sampling begins with. Levels beyond the process's end become tau = 1.
    """

    levels: tuple[float, ...]
    tail: float = 0.1

    def __post_init__(self) -> None:
        falls = all(a > b for a, b in pairwise(self.levels))
        if len(self.levels) < 2 or not falls or not all(map(math.isfinite, self.levels)):
            raise UserError(f"levels={self.levels}: two or more finite values of logsnr that fall")
        check_tail(self.tail)

    def cdf(self, process: Process, tau: Array) -> Array:
        logsnr, (first, *_, last) = process.logsnr(tau), self.levels
        inside = jnp.interp(-logsnr, -jnp.asarray(self.levels), self._shares())
        if self.tail == 0:
            return inside
        before, after = (jnp.exp(jnp.minimum(d, 0.0) / self._width()) for d in (first - logsnr, logsnr - last))
        return inside - self.tail * (1 - before) + self.tail * (1 - after)

    def quantile(self, process: Process, u: Array) -> Array:
        logsnr = jnp.interp(u, self._shares(), jnp.asarray(self.levels))
        if self.tail > 0:
            before, after = (-self._width() * jnp.log(jnp.minimum(v / self.tail, 1.0)) for v in (u, 1 - u))
            logsnr = logsnr + before - after
        return jnp.minimum(process.tau_of_logsnr(logsnr), 1.0)

    def _shares(self) -> Array:
        return jnp.linspace(self.tail, 1.0 - self.tail, len(self.levels))

    def _width(self) -> float:
        """Of a tail, in logsnr: one that begins as dense as the octaves are on average."""
        return self.tail * (self.levels[0] - self.levels[-1]) / (1 - 2 * self.tail)


@dataclass(frozen=True)
class FromSpectrum(Density):
    """Stands in a recipe for `Spectral` of the run's own latents, which are not known before they are encoded.

    When the denoiser's training starts, the spectrum is kept in the run's folder, and read from there ever after.
    """

    tail: float = 0.1

    def __post_init__(self) -> None:
        check_tail(self.tail)

    def fitted(self, power: np.ndarray) -> Spectral:
        """The density that stands in its place, of a spectrum as `spectral` takes it."""
        return spectral(power, self.tail)

    def cdf(self, process: Process, tau: Array) -> Array:
        raise UserError("the density FromSpectrum is known when the run's latents are: train the run first")

    def quantile(self, process: Process, u: Array) -> Array:
        return self.cdf(process, u)


def spectral(power: np.ndarray, tail: float = 0.1) -> Spectral:
    """The density that a spectrum asks for: `power` (k,) of one to k cycles, as `rapsd` gives it, mean over channels.

    A frequency stands above the noise while alpha^2 P > sigma^2, so it drowns at logsnr = -log P. The octaves' edges
    are k, k/2, k/4, ... 1 cycles; where power does not fall from one to the next, they are taken together.
    Raises `UserError` for fewer than two octaves that differ.
    """
    if len(power) < 2:
        raise UserError(f"a spectrum of {len(power)} frequencies has no octave: latents need four rows and columns")
    cycles = len(power) / 2.0 ** np.arange(int(np.log2(len(power))) + 1)
    with np.errstate(divide="ignore"):  # no power at all: refused as a level that is not finite
        edges = -np.log(np.interp(cycles, np.arange(1, len(power) + 1), power))
    kept = [edges[0]]
    for edge in edges[1:]:
        if edge < kept[-1]:
            kept.append(edge)
    return Spectral(tuple(float(edge) for edge in kept), tail)
