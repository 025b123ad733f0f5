"""The midpoint step in log sigma: DPM-Solver-2."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.gaussian import Process, divide
from diorama.process.noise import Brownian
from diorama.sample.solver.interval import between, shrinkage
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class Midpoint(Solver):
    """Second order, two evaluations: Euler's step, corrected by the noise that is predicted half-way in logsnr.

    Lu et al. 2022 (arXiv 2206.00927), algorithm 1 with r = 1/2; "DPM2" in k-diffusion. In sigma/alpha it is the
    midpoint rule, d(x/alpha) = epsilon d(sigma/alpha). The step that leaves alpha = 0 and the one that ends in data
    have no half-way: they are Euler's, once each, which costs no order, and one evaluation.
    """

    order = 2
    evaluations = 2

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        here = denoise(x, tau)
        euler = process.add_noise(here.x0, here.epsilon, tau_next)
        inside = shrinkage(process, tau, tau_next, x.ndim) > 0

        def corrected() -> Array:
            middle = between(process, tau, tau_next, 0.5)
            there = denoise(process.add_noise(here.x0, here.epsilon, middle), middle)
            a, b = process.at(tau, x.ndim), process.at(tau_next, x.ndim)
            fall = b.sigma - a.sigma * divide(b.alpha, a.alpha)
            return euler + jnp.where(inside, fall * (there.epsilon - here.epsilon), 0.0)

        return jax.lax.cond(jnp.any(inside), corrected, lambda: euler), carry
