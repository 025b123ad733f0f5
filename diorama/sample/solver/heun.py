"""Heun's step: the mean of what the denoiser says at both ends."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.gaussian import Process, expand
from diorama.process.noise import Brownian
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class Heun(Solver):
    """Second order, two evaluations, one in the step that ends in data; arXiv 2206.00364, algorithm 1."""

    order = 2
    evaluations = 2

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        here = denoise(x, tau)
        euler = process.add_noise(here.x0, here.epsilon, tau_next)

        def corrected() -> Array:
            there = denoise(euler, tau_next)
            a, b = process.at(tau, x.ndim), process.at(tau_next, x.ndim)
            change = (b.alpha - a.alpha) * (there.x0 - here.x0) + (b.sigma - a.sigma) * (there.epsilon - here.epsilon)
            return euler + jnp.where(expand(tau_next > 0, x.ndim), change / 2, 0.0)

        # In data there is no noise to predict: the last step is Euler's, and costs one evaluation.
        return jax.lax.cond(jnp.any(tau_next > 0), corrected, lambda: euler), carry
