"""DDIM, and ancestral sampling at its other end."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process
from diorama.process.noise import Brownian
from diorama.sample.solver.interval import shrinkage
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class DDIM(Solver):
    """First order, one evaluation; `eta` from 0 (the ODE, equal to `Euler`) to 1 (ancestral sampling, DDPM).

    Song et al. 2020 (arXiv 2010.02502), equations 12 and 16, for any process: a share
    kappa^2 = eta^2 (1 - snr / snr_next) of the predicted noise's variance is drawn afresh.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta={self.eta}: the share of fresh noise lies in [0, 1]")

    @classmethod
    def examples(cls) -> "tuple[Solver, ...]":
        return cls(), cls(eta=1.0)

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        here = denoise(x, tau)
        epsilon = here.epsilon
        if self.eta > 0:
            shrink = shrinkage(process, tau, tau_next, x.ndim)
            kappa = self.eta * jnp.sqrt(jnp.maximum(1 - shrink**2, 0.0))
            epsilon = jnp.sqrt(1 - kappa**2) * epsilon + kappa * noise(tau, tau_next)
        return process.add_noise(here.x0, epsilon, tau_next), carry
