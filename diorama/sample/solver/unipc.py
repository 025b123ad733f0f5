"""UniPC (Zhao et al. 2023, arXiv 2302.04867): DPM-Solver++'s step, corrected by the evaluation at its end."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process
from diorama.process.noise import Brownian
from diorama.sample.solver import adams
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class UniPC(Solver):
    """UniPC-p, `p` 1 to 3: the predictor is of order p and the whole of order p + 1, with one evaluation a step.

    The evaluation that corrects a step is the one that the next begins with. The paper's systems of equations for the
    coefficients are those of polynomials in log-SNR through the last p evaluations (and the new one), and B(h) matters
    only in p = 2's predictor and p = 1's corrector, which set their only unknown to 1/2: `b` is "bh1", B = h, or
    "bh2", B = 1 - e^-h.
    """

    p: int = 2
    b: Literal["bh1", "bh2"] = "bh2"

    def __post_init__(self) -> None:
        if self.p not in (1, 2, 3):
            raise UserError(f"p={self.p}: UniPC has orders p = 1, 2 and 3")

    @classmethod
    def examples(cls) -> "tuple[Solver, ...]":
        return cls(2), cls(3)

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.p + 1

    def start(self, x: Array) -> Any:
        return adams.start(x, self.p, self.p + 1)

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        def half(h: Array) -> Array:
            return h / 2 if self.b == "bh1" else -jnp.expm1(-h) / 2

        return adams.step(denoise, process, x, tau, tau_next, carry, self.p, self.p + 1, half)
