"""SA-Solver (Xue et al. 2023, arXiv 2309.05019): Adams predictor and corrector for SDEs."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process, expand
from diorama.process.noise import Brownian
from diorama.sample.solver import adams
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class SASolver(Solver):
    """Polynomials through `predictor` 1 to 3 evaluations and `corrector` 2 to 4 (0: none), the latter with the one at
    the step's end. One evaluation a step.

    `eta` is the paper's tau squared, from 0 (the ODE) to 1 and above (the SDEs with more noise, all with the same
    marginals), in steps that begin in `interval` (low, high] of noise time, and 0 in others: the paper's tau(t), which
    draws no noise near pure noise and near data. Where but two nodes are known the slope's weight is (1 + eta) h / 2,
    as in the authors' code.
    """

    predictor: int = 2
    corrector: int = 2
    eta: float = 1.0
    interval: tuple[float, float] = (0.2, 0.8)

    def __post_init__(self) -> None:
        if self.predictor not in (1, 2, 3) or self.corrector not in (0, 2, 3, 4):
            given = f"predictor={self.predictor}, corrector={self.corrector}"
            raise UserError(f"{given}: SA-Solver has predictors of order 1 to 3 and correctors 0 (none) and 2 to 4")
        low, high = self.interval
        if not 0 <= self.eta < float("inf") or not 0 <= low < high <= 1:
            given = f"eta={self.eta}, interval={self.interval}"
            raise UserError(f"{given}: fresh noise is at least 0 and finite, from a low to a high noise time in [0, 1]")

    @classmethod
    def examples(cls) -> "tuple[Solver, ...]":
        return cls(), cls(3, 4, eta=0.0)

    @property
    def order(self) -> int:  # type: ignore[override]
        """Of the ODE."""
        return max(self.predictor, min(self.predictor + 1, self.corrector))

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def start(self, x: Array) -> Any:
        return adams.start(x, self.predictor, self.corrector)

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        low, high = self.interval
        eta = expand(jnp.where((tau > low) & (tau <= high), self.eta, 0.0).astype(x.dtype), x.ndim)
        fresh = noise(tau, tau_next) if self.eta > 0 else None
        orders = self.predictor, self.corrector
        return adams.step(denoise, process, x, tau, tau_next, carry, *orders, lambda k: k / 2, eta, fresh)
