"""Gaussian noise processes: x_tau = alpha(tau) x0 + sigma(tau) epsilon, from data (tau = 0) to noise (tau = 1).

A process is a pair of functions, alpha falling and sigma rising; everything else follows from them:

    logsnr(tau) = 2 log(alpha / sigma)                                                  (1)
    velocity    = alpha' x0 + sigma' epsilon = dx_tau/dtau, the probability-flow ODE     (2)
    renoising   x_hat = (alpha_hat/alpha) x + sqrt(sigma_hat^2 - (alpha_hat sigma/alpha)^2) z   (3)

Sources: Song et al. 2021 (arXiv 2011.13456), Kingma et al. 2021 (2107.00630), Karras et al. 2022 (2206.00364),
Liu et al. 2022 (2209.03003).
"""

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Shape
from diorama.process.noise import Coloured, White


def expand(tau: Array | float, ndim: int) -> Array:
    """`tau` of shape (), (b,), (b, t) ... with axes of one appended, so that it broadcasts against `ndim` axes."""
    tau = jnp.asarray(tau)
    return tau.reshape(tau.shape + (1,) * (ndim - tau.ndim))


def divide(numerator: Array, denominator: Array, otherwise: Array | float = 0.0) -> Array:
    """The quotient, and `otherwise` where the denominator is zero (no NaN, in the gradient neither)."""
    zero = denominator == 0
    return jnp.where(zero, otherwise, numerator / jnp.where(zero, 1.0, denominator))


class Level(NamedTuple):
    """A process at some noise time, ready to multiply with media: arrays that broadcast against (b, t, h, w, c)."""

    alpha: Array
    sigma: Array
    alpha_dot: Array  # d alpha / d tau
    sigma_dot: Array
    sigma_data: float

    @property
    def scale(self) -> Array:
        """Root mean square of x_tau: divide by it, and a network's input has unit variance at every noise level."""
        return jnp.sqrt((self.alpha * self.sigma_data) ** 2 + self.sigma**2)


@dataclass(frozen=True)
class Process:
    """What every process can do once `alpha` and `sigma` are given; a user's own process gives those two and no more.

    `tau` is an array in [0, 1] of any shape that broadcasts from the left against the media: (b,), (b, t), ...
    `sigma_data` is the standard deviation of the data, 1 for normalised latents. `noise` is the law of epsilon.
    """

    sigma_data: float = field(default=1.0, kw_only=True)
    noise: White | Coloured = field(default_factory=White, kw_only=True)

    def of(self, shape: Shape) -> "Process":
        """The process that clips of `shape` (t, h, w, c) go through: itself, unless its times depend on size."""
        return self

    def alpha(self, tau: Array) -> Array:
        """Scale of the data at `tau`: falls, alpha(0) = 1."""
        raise NotImplementedError

    def sigma(self, tau: Array) -> Array:
        """Standard deviation of the noise at `tau`: rises, sigma(0) = 0."""
        raise NotImplementedError

    def rates(self, tau: Array) -> tuple[Array, Array]:
        """d alpha / d tau and d sigma / d tau."""
        one = jnp.ones_like(tau)
        return jax.jvp(self.alpha, (tau,), (one,))[1], jax.jvp(self.sigma, (tau,), (one,))[1]

    def logsnr(self, tau: Array) -> Array:
        """Equation (1); falls with tau, +inf at 0, and -inf where alpha is 0."""
        return 2 * (jnp.log(self.alpha(tau)) - jnp.log(self.sigma(tau)))

    def tau_of_logsnr(self, logsnr: Array) -> Array:
        """The inverse of `logsnr`; here by bisection, in closed form where there is one."""
        logsnr = jnp.asarray(logsnr)

        def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = (low + high) / 2
            cleaner = self.logsnr(middle) > logsnr
            return jnp.where(cleaner, middle, low), jnp.where(cleaner, high, middle)

        low, high = jax.lax.fori_loop(0, 50, halve, (jnp.zeros_like(logsnr), jnp.ones_like(logsnr)))
        return (low + high) / 2

    def at(self, tau: Array | float, ndim: int) -> Level:
        """alpha, sigma and their rates at `tau`, broadcast against `ndim` axes."""
        tau = expand(tau, ndim)
        return Level(self.alpha(tau), self.sigma(tau), *self.rates(tau), self.sigma_data)

    def add_noise(self, x0: Array, epsilon: Array, tau: Array | float) -> Array:
        """x_tau = alpha(tau) x0 + sigma(tau) epsilon."""
        level = self.at(tau, x0.ndim)
        return level.alpha * x0 + level.sigma * epsilon

    def renoise(self, x: Array, tau: Array | float, tau_hat: Array | float, noise: Array) -> Array:
        """x at `tau` carried forward to the higher noise `tau_hat` with fresh standard normal `noise`: equation (3).

        Exactly x where tau_hat = tau.
        """
        here, there = self.at(tau, x.ndim), self.at(tau_hat, x.ndim)
        ratio = divide(there.alpha, here.alpha, otherwise=1.0)  # alpha = 0: pure noise already
        added = jnp.sqrt(jnp.maximum(there.sigma**2 - (ratio * here.sigma) ** 2, 0.0))
        return ratio * x + added * noise


@dataclass(frozen=True)
class _Remade(Process):
    """A process made of another, which alone says what the data and the noise are: these are no settings here."""

    process: Process
    # ClassVar takes away the fields that `Process` declares
    sigma_data: ClassVar = property(lambda self: self.process.sigma_data)  # type: ignore[misc]
    noise: ClassVar = property(lambda self: self.process.noise)  # type: ignore[misc]


@dataclass(frozen=True)
class RectifiedFlow(Process):
    """The straight line: alpha = 1 - tau, sigma = tau; velocity = epsilon - x0."""

    def alpha(self, tau: Array) -> Array:
        return 1 - tau

    def sigma(self, tau: Array) -> Array:
        return 1.0 * tau

    def tau_of_logsnr(self, logsnr: Array) -> Array:
        return jax.nn.sigmoid(-jnp.asarray(logsnr) / 2)


@dataclass(frozen=True)
class CosineVP(Process):
    """The quarter circle: alpha = cos(pi tau / 2), sigma = sin(pi tau / 2); logsnr = -2 log tan(pi tau / 2).

    `shift` multiplies sigma / alpha, and alpha^2 + sigma^2 stays 1: d / 64 for pictures of d x d pixels, in which the
    same noise hides less (Hoogeboom et al. 2023, arXiv 2301.11093).
    """

    shift: float = 1.0

    def alpha(self, tau: Array) -> Array:
        return _cosine(tau) / self._radius(tau)

    def sigma(self, tau: Array) -> Array:
        return self.shift * _sine(tau) / self._radius(tau)

    def tau_of_logsnr(self, logsnr: Array) -> Array:
        return 2 / jnp.pi * jnp.arctan(jnp.exp(-jnp.asarray(logsnr) / 2) / self.shift)

    def _radius(self, tau: Array) -> Array | float:
        return 1.0 if self.shift == 1 else jnp.hypot(_cosine(tau), self.shift * _sine(tau))


@dataclass(frozen=True)
class Trigonometric(Process):
    """The quarter circle with noise as large as the data: alpha = cos(pi tau / 2), sigma = sigma_data sin(pi tau / 2).

    x_tau has the data's standard deviation at every tau (TrigFlow, Lu & Song 2024, arXiv 2410.11081).
    """

    sigma_data: float = field(default=0.5, kw_only=True)

    def alpha(self, tau: Array) -> Array:
        return _cosine(tau)

    def sigma(self, tau: Array) -> Array:
        return self.sigma_data * _sine(tau)

    def tau_of_logsnr(self, logsnr: Array) -> Array:
        return 2 / jnp.pi * jnp.arctan(jnp.exp(-jnp.asarray(logsnr) / 2) / self.sigma_data)


def _cosine(tau: Array) -> Array:
    return jnp.sin(jnp.pi / 2 * (1 - tau))  # exactly 0 at tau = 1, which cos is not in floating point


def _sine(tau: Array) -> Array:
    return jnp.sin(jnp.pi / 2 * tau)


@dataclass(frozen=True)
class LinearVP(Process):
    """DDPM's linear betas in continuous time: alpha^2 = exp(-B), sigma^2 = 1 - alpha^2,
    B = beta_min tau + (beta_max - beta_min) tau^2 / 2.

    sigma rises as sqrt(tau), so that its rate is infinite at 0; `rates` stops at sigma = 1e-4.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _integral(self, tau: Array) -> Array:
        return tau * (self.beta_min + 0.5 * (self.beta_max - self.beta_min) * tau)

    def alpha(self, tau: Array) -> Array:
        return jnp.exp(-self._integral(tau) / 2)

    def sigma(self, tau: Array) -> Array:
        return jnp.sqrt(-jnp.expm1(-self._integral(tau)))

    def rates(self, tau: Array) -> tuple[Array, Array]:
        half_beta = 0.5 * (self.beta_min + (self.beta_max - self.beta_min) * tau)
        alpha = self.alpha(tau)
        return -half_beta * alpha, half_beta * alpha**2 / jnp.maximum(self.sigma(tau), 1e-4)

    def tau_of_logsnr(self, logsnr: Array) -> Array:
        integral = jax.nn.softplus(-jnp.asarray(logsnr))
        slope = self.beta_max - self.beta_min
        return 2 * integral / (self.beta_min + jnp.sqrt(self.beta_min**2 + 2 * slope * integral))


@dataclass(frozen=True)
class ZeroTerminal(_Remade):
    """A variance-preserving process whose end is pure noise: alpha moved and stretched from [alpha(1), 1] to [0, 1].

    Without it samplers start from noise that training never saw, and pictures keep a middling brightness (Lin et al.
    2023, arXiv 2305.08891, algorithm 1). Predict v or the velocity: epsilon says nothing of x0 at the end.
    """

    process: LinearVP = field(default_factory=LinearVP)

    def alpha(self, tau: Array) -> Array:
        end = self._end()
        stretched = (self.process.alpha(tau) - end) / (1 - end)
        return jnp.where(tau >= 1, 0.0, jnp.maximum(stretched, 0.0))  # exactly, whatever exp rounds to

    def sigma(self, tau: Array) -> Array:
        # sqrt(1 - alpha^2), with 1 - alpha from the inner process's sigma^2: no digits are lost near the data
        ratio = (1 + self.alpha(tau)) / ((1 + self.process.alpha(tau)) * (1 - self._end()))
        return self.process.sigma(tau) * jnp.sqrt(ratio)

    def rates(self, tau: Array) -> tuple[Array, Array]:
        alpha_dot = self.process.rates(tau)[0] / (1 - self._end())
        return alpha_dot, -self.alpha(tau) * alpha_dot / jnp.maximum(self.sigma(tau), 1e-4)

    def tau_of_logsnr(self, logsnr: Array) -> Array:
        end, logsnr = self._end(), jnp.asarray(logsnr)
        alpha = jnp.sqrt(jax.nn.sigmoid(logsnr))
        inner = end + (1 - end) * alpha
        missing = (1 - end) * jax.nn.sigmoid(-logsnr) / (1 + alpha)  # 1 - inner
        return self.process.tau_of_logsnr(2 * jnp.log(inner) - jnp.log(missing * (1 + inner)))

    def _end(self) -> Array:
        return self.process.alpha(jnp.ones(()))


@dataclass(frozen=True)
class EDM(Process):
    """Variance exploding: alpha = 1, sigma = sigma_max tau^rho.

    tau = 0 is data exactly, and the Karras grid is uniform in tau between its sigma_max and sigma_min. EDM's own
    sigma_data is 0.5, for pixels in [-1, 1].
    """

    sigma_max: float = 80.0
    rho: float = 7.0
    sigma_data: float = field(default=0.5, kw_only=True)

    def alpha(self, tau: Array) -> Array:
        return jnp.ones_like(tau)

    def sigma(self, tau: Array) -> Array:
        return self.sigma_max * tau**self.rho

    def tau_of_logsnr(self, logsnr: Array) -> Array:
        return (jnp.exp(-jnp.asarray(logsnr) / 2) / self.sigma_max) ** (1 / self.rho)
