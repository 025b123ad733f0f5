"""Exponential Adams methods: the step that DPM-Solver++, UniPC and SA-Solver share.

With l = log(alpha / sigma), and h from here to the next l, the ODE (eta = 0) and the SDEs with the same marginals are
solved by (Xue et al. 2023, arXiv 2309.05019, proposition 4.2, with their tau^2 = eta)

    x_next = (sigma_next / sigma) e^(-eta h) x + alpha_next integral_0^1 k e^(k (r - 1)) x0(l + r h) dr
             + sigma_next sqrt(1 - e^(-2 eta h)) z,            k = (1 + eta) h                        (1)

A predictor takes x0 for the polynomial in l through the last evaluations. A corrector does the step again with the
evaluation at its end among them, and with the same noise; what it gains moves x, and is not evaluated once more.
e^-h is the ratio of the two sigma / alpha: 0 in the step that leaves alpha = 0 and in the one that ends in data. No
polynomial reaches over those, and both are of first order, as in every implementation.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.gaussian import Process, expand
from diorama.sample.solver.history import bend, exponential, half_logsnr, nothing, remember
from diorama.sample.solver.interval import shrinkage
from diorama.sample.solver.solver import Denoise


def start(x: Array, predictor: int, corrector: int) -> Any:
    """Of polynomials through so many nodes, the end of the step included for the corrector; 0 is without one."""
    size = jnp.zeros((*x.shape[:2], *(1,) * (x.ndim - 2)), x.dtype)
    return nothing(x, max(predictor, corrector) - 1), (jnp.zeros_like(x), size) if corrector else ()


def step(
    denoise: Denoise,
    process: Process,
    x: Array,
    tau: Array,
    tau_next: Array,
    carry: Any,
    predictor: int,
    corrector: int,
    simple: Callable[[Array], Array],
    eta: Array | float = 0.0,
    fresh: Array | None = None,
) -> tuple[Array, Any]:
    """Equation (1), and the correction of the step before. `simple(k)` is the slope's weight where but two nodes are
    known; `eta`, a number or (b, t, 1, 1, 1), is of this step, and `fresh` its noise z."""
    here = denoise(x, tau)
    past, last = carry
    b = process.at(tau_next, x.ndim)
    node, to = (here.x0, half_logsnr(process, tau, x.ndim)), half_logsnr(process, tau_next, x.ndim)

    def curve(nodes: Any, to: Array, eta: Array | float) -> Array | float:
        return bend(nodes, to, lambda h, n: exponential((1 + eta) * h, n), lambda h: simple((1 + eta) * h))

    guess = curve((node, *past)[:predictor], to, eta)
    shrink = shrinkage(process, tau, tau_next, x.ndim)
    moved, change = expand(tau_next != tau, x.ndim), guess
    if corrector:
        before, eta_before = last
        gained = curve((past[0], node, *past[1:])[:corrector], node[1], eta_before) - before
        change = guess + shrink ** (1 + eta) * jnp.where(moved, gained, 0.0)
        last = jnp.where(moved, guess, before), jnp.where(moved, eta, eta_before)
    epsilon = here.epsilon
    if fresh is not None:
        kept = shrink**eta
        epsilon = kept * epsilon + jnp.sqrt(jnp.maximum(1 - kept**2, 0.0)) * fresh
    y = process.add_noise(here.x0, epsilon, tau_next) + b.alpha * change
    return y, (remember(past, node, tau_next != tau), last)
