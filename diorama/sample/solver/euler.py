"""Euler's step."""

from dataclasses import dataclass
from typing import Any

from diorama.core.array import Array
from diorama.process.gaussian import Process
from diorama.process.noise import Brownian
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class Euler(Solver):
    """First order, one evaluation: noise the predicted data again, with the predicted noise."""

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        here = denoise(x, tau)
        return process.add_noise(here.x0, here.epsilon, tau_next), carry
