"""Steps as small as an error asks for."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process, expand
from diorama.process.noise import Brownian
from diorama.sample.solver.interval import Line
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class Adaptive(Solver):
    """Third order; each step is divided until every part's error is below `tolerance`. Give it a grid of one step.

    Heun's third-order method along the straight line (`Line`), which needs no evaluation in data, beside the step of
    order two that its first two slopes make: an embedded pair, as in DPM-Solver-23 (Lu et al. 2022, arXiv 2206.00927).
    The error of a part is the largest of the frames' root mean squares of x / (alpha + sigma), which is about one.

    Every example has parts of its own, common to its frames, so its company changes nothing; a batch takes as long as
    the slowest. At most `limit` parts are tried in a step, the last being all that is left. The carry (b, t) counts
    evaluations, three a part.
    """

    order = 3
    evaluations = 3
    tolerance: float = 1e-3
    limit: int = 100

    def __post_init__(self) -> None:
        if self.tolerance <= 0 or self.limit < 1:
            raise UserError(f"tolerance={self.tolerance}, limit={self.limit}: above 0, and at least 1")

    @classmethod
    def examples(cls) -> "tuple[Solver, ...]":
        return cls(1e-2), cls(1e-3)

    def start(self, x: Array) -> Any:
        return jnp.zeros(x.shape[:2], jnp.int32)

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        line = Line(denoise, process, tau, tau_next)

        def part(state: tuple[Array, ...]) -> tuple[Array, ...]:
            y, done, size, tried = state  # (b, t, h, w, c) and (b,): the share that lies behind, and the next part's
            rest = 1 - done
            size = jnp.where(tried + 1 < self.limit, jnp.minimum(size, rest), rest)
            at, d = done[:, None], size[:, None]
            wide = expand(size, y.ndim)
            k1 = line.slope(y, at)
            k2 = line.slope(y + wide / 3 * k1, at + d / 3)
            k3 = line.slope(y + wide * 2 / 3 * k2, at + d * 2 / 3)
            error = wide * 3 / 4 * (k1 - 2 * k2 + k3)
            error = jnp.sqrt(jnp.mean(error**2, axis=(2, 3, 4))).max(1) / self.tolerance
            taken = (done < 1) & ((error <= 1) | (tried + 1 >= self.limit))
            y = jnp.where(expand(taken, y.ndim), y + wide / 4 * (k1 + 3 * k3), y)
            grown = size * jnp.clip(0.9 * jnp.maximum(error, 1e-9) ** (-1 / 3), 0.2, 5.0)
            tried = tried + (done < 1)
            return y, jnp.where(taken, jnp.where(size >= rest, 1.0, done + size), done), grown, tried

        whole = jnp.ones(x.shape[:1], x.dtype)
        state: tuple[Array, ...] = line.scaled(x, tau), 0 * whole, whole, jnp.zeros(x.shape[:1], jnp.int32)
        y, _, _, tried = jax.lax.while_loop(lambda state: jnp.any(state[1] < 1), part, state)
        return line.unscaled(y, tau_next), carry + 3 * tried[:, None]
