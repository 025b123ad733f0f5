"""Multistep sampling of consistency models."""

from dataclasses import dataclass
from typing import Any

from diorama.core.array import Array
from diorama.process.gaussian import Process
from diorama.process.noise import Brownian
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class Consistency(Solver):
    """Straight to data, and back to `tau_next` with fresh noise: Song et al. 2023 (arXiv 2303.01469), algorithm 1.

    For denoisers that map x_tau to where the ODE ends (consistency models, and others of few steps): each step then
    keeps the law, at any number of them. A denoiser of the usual kind predicts a mean, and its samples come out too
    smooth.
    """

    @property
    def stochastic(self) -> bool:
        return True

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        return process.add_noise(denoise(x, tau).x0, noise(tau, tau_next), tau_next), carry
