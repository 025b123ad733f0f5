"""DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095), multistep: one evaluation a step, and what earlier ones said.

With l = log(alpha / sigma) and h = l_next - l, the ODE for a denoiser x0(l) is solved by

    x(l_next) = (sigma_next / sigma) x + alpha_next integral_0^h e^(u - h) x0(l + u) du                     (1)

and x0 is a polynomial in l through the last `order` evaluations. Everything is written in e^-h, the ratio of the two
sigma / alpha, which is 0 in the step that leaves alpha = 0 and in the one that ends in data: no polynomial reaches
over those, and both are first order, as in every implementation.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from diorama.core.array import Array, Key
from diorama.core.errors import UserError
from diorama.process.gaussian import Process, divide, expand
from diorama.sample.solver import Denoise, Solver, fresh_noise


@dataclass(frozen=True)
class DPMSolver(Solver):
    """`order` 1 to 3 ("2M" and "3M"), one evaluation; `eta` from 0 (the ODE) to 1 (the SDE of the paper).

    Order 1 without `eta` is DDIM. Order 2 is the paper's midpoint form, as in diffusers and k-diffusion. Order 3 is
    exact for a parabola, which that of diffusers is not: it counts half of the curvature and is of second order.
    The first steps are of lower order, so that order 3 is reached only from noise in which x0 hardly moves.
    """

    order: int = 2
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise UserError(f"order={self.order}: DPM-Solver++ has orders 1, 2 and 3")

    def start(self, x: Array) -> Any:
        """No evaluations yet: an infinite step away."""
        nothing = jnp.zeros_like(x), jnp.full((*x.shape[:2], *(1,) * (x.ndim - 2)), jnp.inf, x.dtype)
        return nothing, nothing

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, keys: Key, carry: Any
    ) -> tuple[Array, Any]:
        x0 = denoise(x, tau).x0
        a, b = process.at(tau, x.ndim), process.at(tau_next, x.ndim)
        shrink = divide(a.alpha * b.sigma, b.alpha * a.sigma)  # e^-h
        h = jnp.where(shrink > 0, -jnp.log(jnp.where(shrink > 0, shrink, 1.0)), jnp.inf)
        decay = shrink ** (1 + self.eta)
        move = (1 - decay) * x0 + self._bend(x0, h, decay, carry)
        y = divide(b.sigma, a.sigma) * shrink**self.eta * x + b.alpha * move
        if self.eta > 0:
            y = y + b.sigma * jnp.sqrt(jnp.maximum(1 - shrink ** (2 * self.eta), 0.0)) * fresh_noise(keys, x)
        moved = expand(tau_next != tau, x.ndim)  # a frame that waits learns nothing
        (x1, h1), older = carry
        latest = jnp.where(moved, x0, x1), jnp.where(moved, h, h1)
        return y, (latest, (jnp.where(moved, x1, older[0]), jnp.where(moved, h1, older[1])))

    def _bend(self, x0: Array, h: Array, decay: Array, carry: Any) -> Array | float:
        """What the integral (1), over alpha_next, gives for a polynomial beyond a constant x0."""
        if self.order == 1:
            return 0.0
        (x1, h1), (x2, h2) = carry
        near = jnp.isfinite(h) & jnp.isfinite(h1) & (h1 > 0)
        slope = jnp.where(near, h / jnp.where(near, h1, 1.0), 0.0) * (x0 - x1)
        second = (1 - decay) * slope / 2
        if self.order == 2:
            return second
        far = near & jnp.isfinite(h2) & (h2 > 0) & (h > 0)
        h, h1, h2 = (jnp.where(far, step, 1.0) for step in (h, h1, h2))
        r1, r2, k = h1 / h, h2 / h, (1 + self.eta) * h
        curve = ((x0 - x1) / r1 - (x1 - x2) / r2) / (r1 + r2)
        phi2 = 1 + jnp.expm1(-k) / k
        third = phi2 * ((x0 - x1) / r1 + r1 * curve) + (1 - 2 * phi2 / k) * curve
        return jnp.where(far, third, second)
