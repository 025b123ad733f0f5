"""Guidance: from one denoiser make another that follows its conditions more closely. Solvers never hear of it."""

from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.convert import Denoiser
from diorama.process.gaussian import expand
from diorama.process.prediction import Prediction


def classifier_free(
    denoiser: Denoiser, null: Any, scale: Array | float, interval: tuple[float, float] = (0.0, 1.0)
) -> Denoiser:
    """Classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598): null + scale (conditional - null), on the pair.

    `null` is the conditions that say nothing: the structure of the conditions, its leaves (1, ...) for all examples or
    (b, ...); only the first, with a single scale, lets guidances be nested (the inner one sees 2b examples).
    `scale` is a number or (b,); 1 changes nothing, exactly. `interval` (low, high] in tau is where it guides
    (Kynkäänniemi et al. 2024, 2404.07724); a step with no frame inside costs the conditional evaluation alone. Both
    evaluations are one call of twice the batch.
    """
    if isinstance(scale, int | float) and scale == 1:
        return denoiser
    low, high = interval

    def guided(x: Array, tau: Array, conditions: Any) -> Prediction:
        b = x.shape[0]
        inside = (tau > low) & (tau <= high)
        extra = expand(jnp.where(inside, expand(jnp.asarray(scale) - 1.0, tau.ndim), 0.0), x.ndim)

        def both() -> Prediction:
            silent = jax.tree.map(lambda n, c: jnp.broadcast_to(n, c.shape).astype(c.dtype), null, conditions)
            twice = jax.tree.map(lambda c, n: jnp.concatenate([c, n]), (x, tau, conditions), (x, tau, silent))
            pair = denoiser(*twice)
            return jax.tree.map(lambda p: p[:b] + extra.astype(p.dtype) * (p[:b] - p[b:]), pair)

        if low <= 0 and high >= 1:
            return both()
        return jax.lax.cond(jnp.any(inside), both, lambda: denoiser(x, tau, conditions))

    return guided
