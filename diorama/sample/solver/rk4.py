"""The classical Runge-Kutta step of fourth order."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.gaussian import Process, expand
from diorama.process.noise import Brownian
from diorama.sample.solver.interval import Line
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class RK4(Solver):
    """Fourth order, four evaluations, three in the step that ends in data. Along the straight line (`Line`).

    The last of its slopes would be taken in data, where there is no noise to predict. So the step that ends there is
    Heun's of third order (nodes 0, 1/3, 2/3), whose error in a single step is of fourth order as well.
    """

    order = 4
    evaluations = 4

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        line = Line(denoise, process, tau, tau_next)
        last = tau_next == 0
        second, third = jnp.where(last, 1 / 3, 1 / 2), jnp.where(last, 2 / 3, 1 / 2)
        y = line.scaled(x, tau)
        k1 = line.slope(y, 0.0)
        k2 = line.slope(y + expand(second, x.ndim) * k1, second)
        k3 = line.slope(y + expand(third, x.ndim) * k2, third)
        heun = y + (k1 + 3 * k3) / 4

        def classical() -> Array:
            k4 = line.slope(y + k3, jnp.where(last, 0.0, 1.0))  # anywhere but in data
            return jnp.where(expand(last, x.ndim), heun, y + (k1 + 2 * k2 + 2 * k3 + k4) / 6)

        y = jax.lax.cond(jnp.all(last), lambda: heun, classical)
        return line.unscaled(y, tau_next), carry
