"""Inversion by solving the sampler's own step backwards."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process
from diorama.sample.invert.inversion import Inversion, Inverted, forgetful, intervals, leap, walk
from diorama.sample.solver import Denoise, Heun, Solver


@dataclass(frozen=True)
class FixedPoint(Inversion):
    """For each step, the x from which the solver arrives at the x that is known (AIDI, arXiv 2309.04907).

        x <- x + (x_known - step(x)) / slope,  slope = (alpha alpha' d^2 + sigma sigma') / (alpha^2 d^2 + sigma^2)   (1)

    starting from the naive step. The slope is that of Euler's step for Gaussian data of deviation d = sigma_data: (1)
    is exact at once for these, is the paper's iteration in variance-exploding coordinates near data, and has no pole
    but where nothing can be inverted: a step from alpha = 0 straight to data forgets its noise, and is refused.
    `memory` > 1 mixes so many iterates by least squares on their residuals (Anderson 1965), each example for itself.

    It converges where the denoiser changes little over a step. Strong guidance or few steps make it diverge: then the
    best iterate is kept and `residual` stays above `tolerance`, which is for the caller to look at. Ask for no more
    than the number format holds: about 1e-6 in float32.
    """

    solver: Solver = field(default_factory=Heun)
    iterations: int = 50
    tolerance: float = 1e-6
    memory: int = 4

    def __post_init__(self) -> None:
        forgetful(self.solver)
        if self.iterations < 1 or self.memory < 1:
            raise UserError(f"iterations={self.iterations}, memory={self.memory}: each is at least 1")

    def invert(self, denoise: Denoise, process: Process, plan: np.ndarray, x: Array) -> Inverted:
        process = process.of(x.shape[1:])
        with jax.ensure_compile_time_eval():
            high, low = jnp.asarray(plan[:-1]), jnp.asarray(plan[1:])
            if bool(((process.alpha(high) == 0) & (process.sigma(low) == 0)).any()):
                raise UserError("a step from pure noise straight to data has no inverse: give the plan a step between")

        def rise(x: Array, now: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            x, residual, count = self._solve(denoise, process, x, *now)
            return x, (residual, count)

        x, (residuals, counts) = jax.lax.scan(rise, x, intervals(plan[::-1], x))
        return Inverted(x, residuals.max(0), counts.max(0))

    def generate(self, denoise: Denoise, process: Process, plan: np.ndarray, state: Any) -> Array:
        return walk(self.solver, denoise, process, plan, state)

    def _solve(
        self, denoise: Denoise, process: Process, known: Array, low: Array, high: Array
    ) -> tuple[Array, Array, Array]:
        """The x at `high` whose step to `low` is `known`, its residual (b,), and the steps that were tried (b,)."""
        b, m = len(known), self.memory
        to, at = process.at(low, known.ndim), process.at(high, known.ndim)
        d2 = process.sigma_data**2
        gain = (at.alpha**2 * d2 + at.sigma**2) / (at.alpha * to.alpha * d2 + at.sigma * to.sigma)

        def missed(x: Array) -> tuple[Array, Array]:
            short = known - leap(self.solver, denoise, process, x, high, low)
            return gain * short, jnp.sqrt(((short / to.scale) ** 2).mean((1, 2, 3, 4)))

        def unsettled(state: tuple[Array, ...]) -> Array:
            number, *_, least, _ = state
            return (number < self.iterations) & ~(least <= self.tolerance).all()

        def improve(state: tuple[Array, ...]) -> tuple[Array, ...]:
            number, x, tried, moves, best, least, count = state
            move, residual = missed(x)
            active = ~(least <= self.tolerance)  # one that arrived stays, whatever its company does
            better = active & (residual < least)
            tried = tried.at[:, number % m].set((x + move).reshape(b, -1))
            moves = moves.at[:, number % m].set(move.reshape(b, -1))
            shares = _shares(moves, number + 1)
            mixed = jnp.einsum("bm,bmn->bn", shares, tried)
            return (
                number + 1,
                mixed.reshape(x.shape),
                tried,
                moves,
                jnp.where(better[:, None, None, None, None], x, best),
                jnp.where(better, residual, least),
                count + active,
            )

        guess = leap(self.solver, denoise, process, known, low, high)
        empty = jnp.zeros((b, m, known[0].size), known.dtype)
        never = jnp.full(b, jnp.inf, known.dtype)
        begun: tuple[Array, ...] = jnp.zeros((), int), guess, empty, empty, guess, never, jnp.zeros(b, int)
        *_, best, least, count = jax.lax.while_loop(unsettled, improve, begun)
        return best, least, count


def _shares(moves: Array, filled: Array) -> Array:
    """The shares (b, m), of sum 1, of iterates whose moves (b, m, n) then cancel best; the first `filled` count."""
    b, m, _ = moves.shape
    held = jnp.arange(m) < filled
    products = jnp.einsum("bin,bjn->bij", moves, moves)
    size = jnp.trace(products, axis1=1, axis2=2)[:, None, None]
    ridge = jnp.finfo(moves.dtype).eps * jnp.where(size > 0, size, 1.0)
    products = products + ridge * jnp.eye(m)
    products = jnp.where(held[:, None] & held, products / jnp.where(size > 0, size, 1.0), jnp.eye(m))
    shares = jnp.where(held, jnp.linalg.solve(products, jnp.broadcast_to(held[:, None], (b, m, 1)) + 0.0)[..., 0], 0.0)
    return shares / shares.sum(1, keepdims=True)
