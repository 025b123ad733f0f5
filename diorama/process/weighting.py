"""Weightings: how much an error counts at each noise time. Which times are trained on is a density, a separate object.

The error is that of the pair, which has a pole at neither end, whatever the network predicts:

    error = |x0^ - x0|^2 + |epsilon^ - epsilon|^2                                          (1)

Both terms come from one mistake, alpha dx0 + sigma depsilon = 0, so each named error is a share of it:

    |dx0|^2 = sigmoid(-logsnr) error        |depsilon|^2 = sigmoid(logsnr) error           (2)
    |dv|^2 = (alpha^2 + sigma^2) error      |dvelocity|^2 = (alpha sigma' - sigma alpha')^2 / (alpha^2 + sigma^2) error
    |dF|^2 = (alpha^2 + sigma^2 / sigma_data^2) / (alpha^2 + sigma^2) error

A weighting called with (process, tau) returns the factor on (1): `X0`, `Epsilon`, `V`, `Velocity` and `EDM` make the
loss the plain mean square of the error they are named after. Whatever the choices, the expected loss is a re-weighted
ELBO (Kingma & Gao 2023, arXiv 2303.00848): 1/2 integral w(logsnr) |depsilon|^2 dlogsnr, where density and weighting
together decide w (`effective`); w = 1 is the ELBO itself.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.density import Density
from diorama.process.gaussian import Level, Process
from diorama.process.prediction import Prediction


def error(prediction: Prediction, x0: Array, epsilon: Array) -> Array:
    """Equation (1) at every position: the shape of x0."""
    return (prediction.x0 - x0) ** 2 + (prediction.epsilon - epsilon) ** 2


def effective(process: Process, weighting: "Weighting", density: Density, tau: Array) -> Array:
    """w(logsnr) of the re-weighted ELBO at the logsnr of `tau`, training with `weighting` at times from `density`."""
    at = _at(process, tau)
    share = jax.nn.sigmoid(process.logsnr(tau))
    return 2 * weighting(process, tau) / share * density.pdf(process, tau) / _fall(at)


def _at(process: Process, tau: Array) -> Level:
    return process.at(tau, jnp.ndim(tau))


def _square(at: Level) -> Array:
    return at.alpha**2 + at.sigma**2


def _turn(at: Level) -> Array:
    return at.alpha * at.sigma_dot - at.sigma * at.alpha_dot


def _fall(at: Level) -> Array:
    """-d logsnr / d tau."""
    return 2 * _turn(at) / (at.alpha * at.sigma)


@dataclass(frozen=True)
class Weighting:
    """A function of the process and the noise time."""

    def __call__(self, process: Process, tau: Array) -> Array:
        """The factor on the error of equation (1), of the shape of `tau`."""
        raise NotImplementedError


@dataclass(frozen=True)
class X0(Weighting):
    """The error of x0."""

    def __call__(self, process: Process, tau: Array) -> Array:
        return jax.nn.sigmoid(-process.logsnr(tau))


@dataclass(frozen=True)
class Epsilon(Weighting):
    """The error of epsilon (DDPM, 2006.11239); w = sech(logsnr/2) for uniform tau and the cosine process."""

    def __call__(self, process: Process, tau: Array) -> Array:
        return jax.nn.sigmoid(process.logsnr(tau))


@dataclass(frozen=True)
class V(Weighting):
    """The error of v (2202.00512); w = exp(-logsnr/2) for uniform tau and the cosine process."""

    def __call__(self, process: Process, tau: Array) -> Array:
        return _square(_at(process, tau))


@dataclass(frozen=True)
class Velocity(Weighting):
    """The error of the velocity (flow matching, 2210.02747); w = exp(-logsnr/2) for uniform tau and rectified flow."""

    def __call__(self, process: Process, tau: Array) -> Array:
        at = _at(process, tau)
        return _turn(at) ** 2 / _square(at)


@dataclass(frozen=True)
class EDM(Weighting):
    """The error of F, (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 on that of x0 (2206.00364, table 1)."""

    def __call__(self, process: Process, tau: Array) -> Array:
        at = _at(process, tau)
        return (at.alpha**2 + (at.sigma / at.sigma_data) ** 2) / _square(at)


@dataclass(frozen=True)
class MinSNR(Weighting):
    """The error of x0 times min(snr, gamma) (Hang et al. 2023, 2303.09556)."""

    gamma: float = 5.0

    def __call__(self, process: Process, tau: Array) -> Array:
        logsnr = process.logsnr(tau)
        return jnp.where(logsnr < jnp.log(self.gamma), jax.nn.sigmoid(logsnr), self.gamma * jax.nn.sigmoid(-logsnr))


@dataclass(frozen=True)
class P2(Weighting):
    """The error of epsilon times 1 / (1 + snr)^gamma: less for what is almost clean (Choi et al. 2022, 2204.00227)."""

    gamma: float = 1.0

    def __call__(self, process: Process, tau: Array) -> Array:
        logsnr = process.logsnr(tau)
        return jax.nn.sigmoid(logsnr) * jax.nn.sigmoid(-logsnr) ** self.gamma


@dataclass(frozen=True)
class ELBO(Weighting):
    """w = 1 for uniform tau: the likelihood bound. Has its true pole at tau = 0."""

    def __call__(self, process: Process, tau: Array) -> Array:
        return jax.nn.sigmoid(process.logsnr(tau)) * _fall(_at(process, tau)) / 2


@dataclass(frozen=True)
class Sigmoid(Weighting):
    """w = sigmoid(bias - logsnr) for uniform tau (Hoogeboom et al. 2024, 2410.19324): the ELBO to logsnr = `bias`."""

    bias: float = 2.0

    def __call__(self, process: Process, tau: Array) -> Array:
        return ELBO()(process, tau) * jax.nn.sigmoid(self.bias - process.logsnr(tau))
