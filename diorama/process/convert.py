"""One process's denoiser as another's, without retraining: processes differ in time and scale, not in what they hide.

At equal sigma/alpha, x_tau of two processes are the same up to a factor, and so are the questions that they ask of a
denoiser. A network trained as rectified flow is sampled as a trigonometric or a variance-exploding one, and the other
way round (SANA-Sprint, Chen et al. 2025, arXiv 2503.09641, does one of these).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process, divide, expand
from diorama.process.prediction import Prediction

Denoiser = Callable[[Array, Array, Any], Prediction]  # (x_tau (b, t, h, w, c), tau (b, t), conditions) -> Prediction


def as_process(denoiser: Denoiser, trained: Process, used: Process) -> Denoiser:
    """`denoiser`, which knows `trained`, for solvers that walk `used`. Both are of the same data.

    Where `used` is noisier than `trained` ever was, as at alpha = 0 for one that ends at a finite sigma, the denoiser
    is asked at its own end, with as much noise as it expects: x0 is what it says there, and epsilon what is left.
    Raises `UserError` for processes of different noise, for those do not hide the same.
    """
    if trained == used:
        return denoiser
    if trained.noise != used.noise:
        raise UserError(f"a denoiser trained with {trained.noise} cannot be used with {used.noise}: give both the same")

    def converted(x: Array, tau: Array, conditions: Any) -> Prediction:
        known, walked = trained.of(x.shape[1:]), used.of(x.shape[1:])
        wanted = walked.logsnr(tau)
        inside = wanted >= known.logsnr(jnp.ones_like(tau))
        own = jnp.where(inside, jnp.clip(known.tau_of_logsnr(wanted), 0.0, 1.0), 1.0)
        here, there = walked.at(tau, x.ndim), known.at(own, x.ndim)
        ratio = jnp.hypot(there.alpha, there.sigma) / jnp.hypot(here.alpha, here.sigma)
        scale = jnp.where(expand(inside, x.ndim), ratio, divide(there.sigma, here.sigma))
        pair = denoiser(scale * x, own, conditions)
        left = divide(x - here.alpha * pair.x0, here.sigma)
        return Prediction(pair.x0, jnp.where(expand(inside, x.ndim), pair.epsilon, left))

    return converted
