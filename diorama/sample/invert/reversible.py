"""Inversion by a sampler whose every step has an inverse in closed form."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process, expand
from diorama.sample.invert.inversion import Inversion, Inverted, forgetful, intervals, leap
from diorama.sample.solver import Denoise, Heun, Solver


@dataclass(frozen=True)
class Reversible(Inversion):
    """Two clips y, z that step by turns, McCallum & Foster 2024 (arXiv 2410.11648), with psi what a step changes:

        y' = c y + (1 - c) z + psi(z, down)         z' = z - psi(y', up)                            (1)
        z  = z' + psi(y', up)                       y  = (y' - (1 - c) z - psi(z, down)) / c        (2)

    (2) undoes (1) by arithmetic alone, for any denoiser, guidance and number of steps: the round trip is exact to
    rounding, which grows by 1/c a step. The pair must be kept: it is twice the size of the media. EDICT (2211.12446),
    BDIA (2307.10829) and the leapfrog keep two clips too, but of first order, or with errors that no step damps; here
    the solver gives the order, and the coupling c < 1 draws the two clips together.

    Steps are taken in x over its root mean square (`Level.scale`), in which the ODE of Gaussian data stands still. In x
    itself a step from sigma to sigma' spreads the two by (sigma / sigma')^2.
    """

    solver: Solver = field(default_factory=Heun)
    coupling: float = 0.98

    def __post_init__(self) -> None:
        forgetful(self.solver)
        if not 0 < self.coupling <= 1:
            raise UserError(f"coupling={self.coupling}: above 0 and at most 1")

    def invert(self, denoise: Denoise, process: Process, plan: np.ndarray, x: Array) -> Inverted:
        process = process.of(x.shape[1:])
        c = self.coupling

        def rise(pair: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
            (y, z), (low, high) = pair, now
            above = z + self._change(denoise, process, y, low, high)
            before = (y - (1 - c) * above - self._change(denoise, process, above, high, low)) / c
            moves = expand(low != high, y.ndim)
            return (jnp.where(moves, before, y), jnp.where(moves, above, z)), None

        x = x / process.at(intervals(plan, x)[1][-1], x.ndim).scale
        pair, _ = jax.lax.scan(rise, (x, x), intervals(plan[::-1], x))
        return Inverted(pair, jnp.zeros(len(x), x.dtype), jnp.ones(len(x), int))

    def generate(self, denoise: Denoise, process: Process, plan: np.ndarray, state: Any) -> Array:
        process = process.of(state[0].shape[1:])
        c = self.coupling

        def fall(pair: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
            (y, z), (high, low) = pair, now
            below = c * y + (1 - c) * z + self._change(denoise, process, z, high, low)
            after = z - self._change(denoise, process, below, low, high)
            moves = expand(low != high, y.ndim)
            return (jnp.where(moves, below, y), jnp.where(moves, after, z)), None

        (y, _), _ = jax.lax.scan(fall, state, intervals(plan, state[0]))
        return y * process.at(intervals(plan, y)[1][-1], y.ndim).scale

    def _change(self, denoise: Denoise, process: Process, u: Array, tau: Array, tau_next: Array) -> Array:
        """What a step changes of `u`, which is x over its root mean square."""
        here, there = process.at(tau, u.ndim).scale, process.at(tau_next, u.ndim).scale
        return leap(self.solver, denoise, process, u * here, tau, tau_next) / there - u
