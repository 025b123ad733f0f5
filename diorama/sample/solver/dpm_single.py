"""DPM-Solver++, singlestep (Lu et al. 2022, arXiv 2211.01095): a step looks ahead, and remembers nothing."""

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
class DPMSingle(Solver):
    """`order` 2 ("2S", algorithm 1, with r = 1/2) or 3 ("3S", 1/3 and 2/3), which is also how often it evaluates.

    Euler's step, corrected by the data that are predicted further on, in logsnr. The step that leaves alpha = 0 and
    the one that ends in data are Euler's, and cost one evaluation: all that order 2 needs, while order 3 is reached
    only from noise in which x0 hardly moves, and down to noise that hides nothing. For fresh noise in the step see
    `SEEDS`, for some after it `Ancestral`.
    """

    order: int = 2  # type: ignore[misc]

    def __post_init__(self) -> None:
        if self.order not in (2, 3):
            raise UserError(f"order={self.order}: DPM-Solver++ in single steps has orders 2 and 3; order 1 is Euler's")

    @property
    def evaluations(self) -> int:  # type: ignore[override]
        return self.order

    @classmethod
    def examples(cls) -> "tuple[Solver, ...]":
        return cls(2), cls(3)

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        here = denoise(x, tau)
        euler = process.add_noise(here.x0, here.epsilon, tau_next)
        shrink = shrinkage(process, tau, tau_next, x.ndim)
        inside, b = shrink > 0, process.at(tau_next, x.ndim)

        def ahead(share: float, bend: Array | float = 0.0) -> Array:
            """How far x0, as predicted a share of the way on, has moved; `bend` corrects x there."""
            at = between(process, tau, tau_next, share)
            x = process.add_noise(here.x0, here.epsilon, at) + process.at(at, euler.ndim).alpha * bend
            return jnp.where(inside, denoise(x, at).x0 - here.x0, 0.0)

        def second() -> Array:
            return euler + b.alpha * (1 - shrink) * ahead(1 / 2)

        def third() -> Array:
            h = -jnp.log(jnp.where(inside, shrink, 1.0))
            bend = 2 * _phi(2 / 3 * h) * ahead(1 / 3)
            return euler + 1.5 * b.alpha * _phi(h) * ahead(2 / 3, bend)

        return jax.lax.cond(jnp.any(inside), second if self.order == 2 else third, lambda: euler), carry


def _phi(h: Array) -> Array:
    """1 + (e^-h - 1) / h: what a slope of one, begun at zero, leaves of itself after h."""
    return 1 + divide(jnp.expm1(-h), h, otherwise=-1.0)
