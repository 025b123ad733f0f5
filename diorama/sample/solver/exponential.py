"""An exponential integrator of the reverse SDE."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process, divide
from diorama.process.noise import Brownian
from diorama.sample.solver.interval import between, shrinkage
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class SEEDS(Solver):
    """Two evaluations; the law of its samples is of second order. `eta` from 0 (`DPMSingle`) to 1 (the reverse SDE)
    and above (more noise, the same marginals).

    Gonzalez et al. 2023 (arXiv 2305.14267), SEEDS-2, for a denoiser of x0: DPM-Solver++'s midpoint step with the noise
    that the path has met half-way in what it sees there. "dpmpp_sde" in k-diffusion is this step for eta = 1, but for
    how the noise half-way goes with that of the whole step: here as in the exact solution,

        z = e^(-eta h/2) z1 + sqrt(1 - e^(-eta h)) z2,   z1 and z2 of the step's two halves.

    The step that leaves alpha = 0 and the one that ends in data are of first order and cost one evaluation.
    """

    order = 2
    evaluations = 2
    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta < float("inf"):
            raise UserError(f"eta={self.eta}: fresh noise is at least 0, and finite")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        x0 = denoise(x, tau).x0
        shrink = shrinkage(process, tau, tau_next, x.ndim)
        half, inside = jnp.sqrt(shrink), shrink > 0
        middle = between(process, tau, tau_next, 0.5)
        if self.stochastic:
            noise = noise.knowing(middle)
        early, late = self._noise(half, noise, tau, middle), self._noise(half, noise, middle, tau_next)

        def moved(there: Array, shrink: Array, x0: Array, fresh: Array) -> Array:
            a, b = process.at(tau, x.ndim), process.at(there, x.ndim)
            kept = divide(b.sigma, a.sigma) * shrink**self.eta * x
            return kept + b.alpha * (1 - shrink ** (1 + self.eta)) * x0 + b.sigma * fresh

        def corrected() -> Array:
            ahead = jnp.where(inside, moved(middle, half, x0, early), x)  # where there is no half-way, middle is tau
            return jnp.where(inside, denoise(ahead, middle).x0, x0)

        x0 = jax.lax.cond(jnp.any(inside), corrected, lambda: x0)
        return moved(tau_next, shrink, x0, half**self.eta * early + late), carry

    def _noise(self, half: Array, noise: Brownian, tau: Array, tau_next: Array) -> Array:
        """Of half a step, in units of sigma."""
        if self.eta == 0:
            return jnp.zeros(())
        return jnp.sqrt(jnp.maximum(1 - half ** (2 * self.eta), 0.0)) * noise(tau, tau_next)
