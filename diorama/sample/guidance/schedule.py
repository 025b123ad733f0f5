"""When guidance acts: a factor on what it adds, for any noise time. A schedule of one's own is a class more here."""

import sys
from dataclasses import dataclass

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.discover import any_of, kinds
from diorama.core.errors import UserError
from diorama.process.gaussian import Process


@dataclass(frozen=True)
class Schedule:
    """A function of the process and the noise time: 0 where there is no guidance, 1 where there is all of it."""

    def __call__(self, process: Process, tau: Array) -> Array:
        """The factor on scale - 1, of the shape of `tau`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """At every noise time alike."""

    def __call__(self, process: Process, tau: Array) -> Array:
        return jnp.ones_like(tau)


@dataclass(frozen=True)
class Interval(Schedule):
    """Between the noise times low < tau <= high only (Kynkäänniemi et al. 2024, arXiv 2404.07724)."""

    low: float = 0.2
    high: float = 0.8

    def __post_init__(self) -> None:
        _ordered(self.low, self.high)

    def __call__(self, process: Process, tau: Array) -> Array:
        return ((tau > self.low) & (tau <= self.high)).astype(tau.dtype)


@dataclass(frozen=True)
class NoiseInterval(Schedule):
    """As `Interval`, between the noise levels low < sigma/alpha <= high, which mean the same for every process.

    The defaults take in the 6 of 32 steps that were best for EDM2-XXL on ImageNet-512: sigma from 0.28 to 1.6, of data
    with a standard deviation of 0.5.
    """

    low: float = 0.45
    high: float = 3.7

    def __post_init__(self) -> None:
        _ordered(self.low, self.high)

    def __call__(self, process: Process, tau: Array) -> Array:
        sigma, alpha = process.sigma(tau), process.alpha(tau)
        return ((sigma > self.low * alpha) & (sigma <= self.high * alpha)).astype(tau.dtype)


@dataclass(frozen=True)
class Ramp(Schedule):
    """From a factor `noise` at tau = 1 evenly to a factor `data` at tau = 0; Wang et al. 2024, arXiv 2404.13040.

    Their "linear" rises from 0 to 2, so that the mean stays 1.
    """

    noise: float = 0.0
    data: float = 2.0

    def __call__(self, process: Process, tau: Array) -> Array:
        return self.data + (self.noise - self.data) * tau


@dataclass(frozen=True)
class Cosine(Schedule):
    """As `Ramp`, along half a cosine: level at both ends."""

    noise: float = 0.0
    data: float = 2.0

    def __call__(self, process: Process, tau: Array) -> Array:
        return self.noise + (self.data - self.noise) * (1 + jnp.cos(jnp.pi * tau)) / 2


def _ordered(low: float, high: float) -> None:
    if not low < high:
        raise UserError(f"low={low:g}, high={high:g}: between them nothing is guided; give low below high")


SCHEDULES = kinds([sys.modules[__name__]], Schedule)
AnySchedule = any_of(SCHEDULES)  # what a run's configuration may name
