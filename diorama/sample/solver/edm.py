"""EDM's stochastic sampling: more noise first, then a step of the ODE."""

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process, expand
from diorama.process.noise import Brownian
from diorama.sample.solver.heun import Heun
from diorama.sample.solver.single import Single
from diorama.sample.solver.solver import Denoise, Solver

MOST = 2**0.5 - 1  # the paper's bound on gamma: at most as much new noise as there is


@dataclass(frozen=True)
class Churn(Solver):
    """Karras et al. 2022 (arXiv 2206.00364), algorithm 2, with any step of the ODE inside; `Heun` is theirs.

    Before each step sigma/alpha is raised by a factor 1 + gamma, where it lies in [s_min, s_max], by fresh noise of
    standard deviation `s_noise` (a little above 1 makes up for what denoisers smooth away). The paper says
    S_churn = gamma x steps; a step does not know how many there are, so say gamma itself: theirs for ImageNet is
    gamma = 40/256, s_min = 0.05, s_max = 50, s_noise = 1.003. Noise is raised to tau = 1 at most.
    """

    inner: Single = field(default_factory=Heun)
    gamma: float = 0.1
    s_min: float = 0.0
    s_max: float = float("inf")
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= MOST:
            raise UserError(f"gamma={self.gamma}: churn lies in [0, {MOST:.4f}], the paper's S_churn over steps")
        if not 0 <= self.s_min <= self.s_max or not 0 <= self.s_noise < float("inf"):
            given = f"s_min={self.s_min}, s_max={self.s_max}, s_noise={self.s_noise}"
            raise UserError(f"{given}: s_min is at most s_max, and none is below 0")

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.inner.order

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return self.inner.evaluations

    @property
    def stochastic(self) -> bool:
        return self.gamma > 0

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        if self.gamma > 0:
            x, tau = self._raised(process, x, tau, tau_next, noise)
        return self.inner.step(denoise, process, x, tau, tau_next, noise, carry)

    def _raised(self, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian) -> tuple[Array, Array]:
        """`x` and `tau` with more noise, in the frames that this step moves down."""
        logsnr = process.logsnr(tau)
        ratio = jnp.exp(-logsnr / 2)
        churned = (tau_next < tau) & (self.s_min <= ratio) & (ratio <= self.s_max)
        raised = jnp.clip(process.tau_of_logsnr(logsnr - 2 * jnp.log1p(self.gamma)), tau, 1.0)
        tau_hat = jnp.where(churned, raised, tau)
        fresh = self.s_noise * noise(tau, tau_next)
        return jnp.where(expand(churned, x.ndim), process.renoise(x, tau, tau_hat, fresh), x), tau_hat
