"""Between the two ends of a step: where a solver looks when it looks more than once."""

from dataclasses import dataclass

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.gaussian import Process, divide, expand
from diorama.sample.solver.solver import Denoise


def shrinkage(process: Process, tau: Array, tau_next: Array, ndim: int) -> Array:
    """e^-h, by what factor sigma/alpha falls; 0 where an end is infinitely far: alpha = 0, or data."""
    a, b = process.at(tau, ndim), process.at(tau_next, ndim)
    return divide(a.alpha * b.sigma, b.alpha * a.sigma)


def between(process: Process, tau: Array, tau_next: Array, share: float) -> Array:
    """The noise time a share of the way in logsnr; `tau` itself where an end is infinitely far."""
    start, end = process.logsnr(tau), process.logsnr(tau_next)
    found = process.tau_of_logsnr(start + share * (end - start))
    return jnp.where(jnp.isfinite(start) & jnp.isfinite(end), found, tau)


@dataclass(frozen=True)
class Line:
    """A step of any process as one along the straight line, by the share p in [0, 1] of it that lies behind.

    With t = sigma / (alpha + sigma) and y = x / (alpha + sigma), y = (1 - t) x0 + t epsilon and dy/dt = epsilon - x0:
    every process is rectified flow but for its clock and scale. t is finite at both ends, and the slope does not
    change if the data are a point, so Runge-Kutta methods in t are exact for it, as they are in no curved variable.
    """

    denoise: Denoise
    process: Process
    tau: Array  # (b, t)
    tau_next: Array

    def slope(self, y: Array, share: Array | float) -> Array:
        """dy/dp at `y` (b, t, h, w, c); `share` broadcasts against (b, t)."""
        start, end = self._t(self.tau), self._t(self.tau_next)
        t = start + share * (end - start)
        there = self.process.tau_of_logsnr(2 * (jnp.log1p(-t) - jnp.log(t)))
        tau = jnp.where(t == start, self.tau, jnp.where(t == end, self.tau_next, there))
        pair = self.denoise(self.unscaled(y, tau), tau)
        return expand(end - start, y.ndim) * (pair.epsilon - pair.x0)

    def scaled(self, x: Array, tau: Array) -> Array:
        """x as y."""
        return x / self._scale(tau, x.ndim)

    def unscaled(self, y: Array, tau: Array) -> Array:
        """y as x."""
        return y * self._scale(tau, y.ndim)

    def _t(self, tau: Array) -> Array:
        return self.process.sigma(tau) / (self.process.alpha(tau) + self.process.sigma(tau))

    def _scale(self, tau: Array, ndim: int) -> Array:
        at = self.process.at(tau, ndim)
        return at.alpha + at.sigma
