"""iPNDM: Adams-Bashforth with the coefficients of even steps, whatever the steps."""

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
class IPNDM(Solver):
    """`order` 1 to 4, one evaluation a step: DDIM with epsilon replaced by, at order 4,
    (55 epsilon - 59 epsilon_1 + 37 epsilon_2 - 9 epsilon_3) / 24, and by shorter sums in the first steps.

    Liu et al. 2022 (arXiv 2202.09778), equation 12, without its Runge-Kutta start ("i": Zhang & Chen 2022, 2204.13902,
    appendix). The coefficients suit steps that are even in sigma / alpha, and only there is the order above 2; kept on
    others they are bolder than `LMS` and often better in ten steps.
    """

    order: int = 4  # type: ignore[misc]

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise UserError(f"order={self.order}: iPNDM has orders 1 to 4")

    def start(self, x: Array) -> Any:
        return nothing(x, self.order - 1)

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        here = denoise(x, tau)
        a, b = process.at(tau, x.ndim), process.at(tau_next, x.ndim)
        node = here.epsilon, jnp.zeros_like(a.sigma)
        steps = ((value, at - i) for i, (value, at) in enumerate((node, *carry)))  # as if each were one step away
        change = bend(tuple(steps), jnp.ones_like(node[1]), plain, None)
        y = process.add_noise(here.x0, here.epsilon, tau_next)
        y = y + (b.sigma - divide(b.alpha * a.sigma, a.alpha)) * change
        return y, remember(carry, node, tau_next != tau)
