"""Predictor and corrector: a step of the ODE, then Langevin dynamics at the noise time that it reached."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process, expand
from diorama.process.noise import Brownian
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class Langevin(Solver):
    """Euler's step, then `corrections` steps of Langevin dynamics; 1 + corrections evaluations (one into data).

        x <- x - size sigma epsilon + sqrt(2 size) sigma z                                  (1)

    Song et al. 2021 (arXiv 2011.13456), algorithms 3 and 5, with score = -epsilon / sigma. Their step is taken from the
    norms of score and noise; `size` sigma^2 is what it is where |epsilon| = |z|, size = 2 r^2 for their ratio r, and
    depends on no other example.

    Langevin dynamics settle in the law whose score they are given, whatever brought x there. Under classifier-free
    guidance that is the *tilted* law p^(1-w) p_cond^w, noise time by noise time, which neither the ODE nor the SDE of
    the guided pair samples (Bradley & Nakkiran 2024, arXiv 2408.09000; PCG). The error falls with steps x corrections.
    They do not cross from mode to mode where little noise is left: what modes weigh is settled before, and goes wrong
    where it still changes after that (`sample.tilted` mends this too). The score's slope is at most 2 w - 1 over
    sigma^2, so size < 2 / (2 w - 1) is stable for every data law; 1 over sigma^2 is usual.
    """

    corrections: int = 4
    size: float = 0.2

    def __post_init__(self) -> None:
        if self.corrections < 1 or self.size <= 0:
            raise UserError(f"corrections={self.corrections}, size={self.size}: at least 1, and above 0")

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return 1 + self.corrections

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        here = denoise(x, tau)
        predicted = process.add_noise(here.x0, here.epsilon, tau_next)
        sigma = jnp.where(expand(tau_next != tau, x.ndim), process.at(tau_next, x.ndim).sigma, 0.0)

        def correct(number: int, x: Array) -> Array:
            z = noise.again(number).at(tau_next)
            return x - self.size * sigma * denoise(x, tau_next).epsilon + (2 * self.size) ** 0.5 * sigma * z

        # In data there is no noise, and (1) would stand still.
        settled = jax.lax.cond(
            jnp.any(sigma > 0), lambda: jax.lax.fori_loop(0, self.corrections, correct, predicted), lambda: predicted
        )
        return settled, carry
