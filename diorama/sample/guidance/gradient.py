"""Guidance by a gradient: towards what a classifier recognises, or towards a small loss of what is being made.

Both add the gradient of a log-likelihood to the score:

    score' = score + scale grad_x log p(y | x_tau)                                         (1)

On the pair, x0' = x0 + sigma C sigma / alpha (scale grad_x log p), with the epsilon that goes with it; C is the noise's
covariance, 1 if it is white, and sigma stands twice because frames may differ in it. The gradient falls as
alpha towards pure noise, so that the quotient is finite; where alpha / sigma is below 1e-3 it is taken there.

They hold functions, so they are called in a program, not named in a run's configuration.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.convert import Denoiser
from diorama.process.gaussian import Process, divide, expand
from diorama.process.prediction import Prediction
from diorama.sample.guidance.guidance import by_x0
from diorama.sample.guidance.schedule import Constant, Schedule

LEAST = -14.0  # logsnr at which alpha / sigma is 1e-3


def by_classifier(
    denoiser: Denoiser,
    process: Process,
    log_likelihood: Callable[[Array, Array], Array],
    scale: float = 1.0,
    when: Schedule = Constant(),  # noqa: B008
) -> Denoiser:
    """`denoiser` led by a classifier of noisy clips (Dhariwal & Nichol 2021, arXiv 2105.05233, algorithm 2).

    `log_likelihood(x, tau)` is log p(y | x_tau) of the wanted y, (b,), differentiable in x (b, t, h, w, c).
    """

    def guided(x: Array, tau: Array, conditions: Any) -> Prediction:
        pair, asked = denoiser(x, tau, conditions), _asked(process.of(x.shape[1:]), tau)
        gradient = jax.grad(lambda x: log_likelihood(x, asked).sum())(x)
        return _led(pair, gradient, process.of(x.shape[1:]), tau, asked, scale, when)

    return guided


def by_loss(
    denoiser: Denoiser,
    process: Process,
    loss: Callable[[Array], Array],
    scale: float = 1.0,
    when: Schedule = Constant(),  # noqa: B008
) -> Denoiser:
    """`denoiser` led towards a small `loss` of the clip that it predicts.

    `loss(x0)` (b, t, h, w, c) -> (b,), differentiable, takes the place of -log p(y | x0), and its value at
    E[x0 | x_tau] that of -log p(y | x_tau): diffusion posterior sampling (Chung et al. 2022, arXiv 2209.14687), and
    with the loss of any network universal guidance (Bansal et al. 2023, 2302.07121) and FreeDoM (Yu et al. 2023,
    2303.09833). The gradient goes through the denoiser, so an evaluation costs about three.
    """

    def guided(x: Array, tau: Array, conditions: Any) -> Prediction:
        here = process.of(x.shape[1:])
        asked = _asked(here, tau)

        def said(x: Array) -> tuple[Array, Prediction]:
            pair = denoiser(x, asked, conditions)
            return -loss(pair.x0).sum(), pair

        gradient, pair = jax.grad(said, has_aux=True)(x)
        at = here.at(tau, x.ndim)
        left = divide(x - at.alpha * pair.x0, at.sigma)  # of a pair that was asked for at another time
        pair = Prediction(pair.x0, jnp.where(expand(asked == tau, x.ndim), pair.epsilon, left))
        return _led(pair, gradient, here, tau, asked, scale, when)

    return guided


def _asked(process: Process, tau: Array) -> Array:
    """The noise time at which to take a gradient."""
    return jnp.where(process.logsnr(tau) < LEAST, process.tau_of_logsnr(jnp.full_like(tau, LEAST)), tau)


def _led(
    pair: Prediction, gradient: Array, process: Process, tau: Array, asked: Array, scale: float, when: Schedule
) -> Prediction:
    at, near = process.at(tau, gradient.ndim), process.at(asked, gradient.ndim)
    factor = scale * expand(when(process, tau), gradient.ndim)
    return by_x0(pair, factor * at.sigma / near.alpha * process.noise.covariance(at.sigma * gradient), at)
