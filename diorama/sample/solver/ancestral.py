"""Ancestral sampling: too far down, and back up with fresh noise."""

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process, divide, expand
from diorama.process.noise import Brownian
from diorama.sample.solver.euler import Euler
from diorama.sample.solver.interval import shrinkage
from diorama.sample.solver.midpoint import Midpoint
from diorama.sample.solver.single import Single
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class Ancestral(Solver):
    """Any step of the ODE, to below `tau_next`, and fresh noise up to it; `eta` from 0 (the ODE) to 1.

    The law of its samples is of the order of the step inside.

    With s = sigma/alpha: s_up^2 = eta^2 s_next^2 (1 - s_next^2 / s^2) of the noise's variance is fresh, and the step
    goes to s_down^2 = s_next^2 - s_up^2; for eta = 1 the posterior's variance (DDPM, Ho et al. 2020, arXiv
    2006.11239). k-diffusion's `get_ancestral_step`, here for any process: alpha grows too on the way back up.
    With `Euler` it is `DDIM(eta)`; with `Midpoint`, "DPM2 a"; with `DPMSingle`, "DPM++ 2S a".
    """

    inner: Single = field(default_factory=Euler)
    eta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta={self.eta}: the share of fresh noise lies in [0, 1]")

    @classmethod
    def examples(cls) -> "tuple[Solver, ...]":
        return cls(), cls(Midpoint())

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.inner.order

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return self.inner.evaluations

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        if self.eta == 0:
            return self.inner.step(denoise, process, x, tau, tau_next, noise, carry)
        share = jnp.minimum(shrinkage(process, tau, tau_next, tau.ndim), 1.0) ** 2  # s_next^2 / s^2
        up = self.eta * jnp.sqrt(1 - share)  # s_up / s_next
        lower = process.tau_of_logsnr(process.logsnr(tau_next) - jnp.log(1 - self.eta**2 + self.eta**2 * share))
        down = jnp.where(tau_next < tau, jnp.clip(lower, 0.0, tau_next), tau_next)
        x, carry = self.inner.step(denoise, process, x, tau, down, noise, carry)
        below, b = process.at(down, x.ndim), process.at(tau_next, x.ndim)
        fresh = b.sigma * expand(up, x.ndim) * noise(tau, tau_next)
        return divide(b.alpha, below.alpha, otherwise=1.0) * x + fresh, carry
