"""Linear multistep: Adams-Bashforth in sigma / alpha, with coefficients for uneven steps."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process, divide
from diorama.process.noise import Brownian
from diorama.sample.solver.history import bend, nothing, plain, remember
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class LMS(Solver):
    """`order` 1 to 4, one evaluation a step, and what earlier ones said.

    With s = sigma / alpha, d(x / alpha) = epsilon ds, and epsilon is the polynomial in s through the last `order`
    evaluations (Katherine Crowson's LMS of k-diffusion, there in sigma; "rho AB" in arXiv 2204.13902), integrated
    exactly. Into data too: s = 0 is no special place. Older steps have little to say of much smaller ones, so grids
    that are even in logsnr suit `DPMSolver` better.
    """

    order: int = 4  # type: ignore[misc]

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise UserError(f"order={self.order}: LMS has orders 1 to 4")

    def start(self, x: Array) -> Any:
        return nothing(x, self.order - 1)

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        here = denoise(x, tau)
        a, b = process.at(tau, x.ndim), process.at(tau_next, x.ndim)
        node = here.epsilon, divide(a.sigma, a.alpha, otherwise=jnp.inf)
        curve = bend((node, *carry), divide(b.sigma, b.alpha, otherwise=jnp.inf), plain, None)
        y = process.add_noise(here.x0, here.epsilon, tau_next) + b.alpha * curve
        return y, remember(carry, node, tau_next != tau)
