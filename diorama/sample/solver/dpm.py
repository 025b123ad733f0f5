"""DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095), multistep: one evaluation a step, and what earlier ones said."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process
from diorama.process.noise import Brownian
from diorama.sample.solver import adams
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class DPMSolver(Solver):
    """`order` 1 to 3 ("2M" and "3M"), one evaluation; `eta` from 0 (the ODE) to 1 (the SDE of the paper)
    and above (more noise, the same marginals).

    Order 1 without `eta` is DDIM. Order 2 is the paper's midpoint form, as in diffusers and k-diffusion. Order 3 is
    exact for a parabola, which that of diffusers is not: it counts half of the curvature and is of second order.
    The first steps are of lower order, so that order 3 is reached only from noise in which x0 hardly moves.
    """

    order: int = 2  # type: ignore[misc]
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise UserError(f"order={self.order}: DPM-Solver++ has orders 1, 2 and 3")
        if not 0 <= self.eta < float("inf"):
            raise UserError(f"eta={self.eta}: fresh noise is at least 0, and finite")

    @classmethod
    def examples(cls) -> "tuple[Solver, ...]":
        return cls(2), cls(3), cls(2, eta=1.0)

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def start(self, x: Array) -> Any:
        return adams.start(x, self.order, 0)

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        def midpoint(k: Array) -> Array:
            return -jnp.expm1(-k) / 2

        fresh = noise(tau, tau_next) if self.eta > 0 else None
        return adams.step(denoise, process, x, tau, tau_next, carry, self.order, 0, midpoint, self.eta, fresh)
