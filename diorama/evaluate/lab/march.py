"""Solvers on given noise: whole grids, of any numbers of steps, side by side in one compiled program."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.core.random import per_example, stream
from diorama.process.gaussian import Process
from diorama.process.noise import Brownian
from diorama.process.prediction import Prediction
from diorama.sample import Solver
from diorama.sample.solver.solver import advance


def march(
    solver: Solver,
    process: Process,
    denoise: Callable[..., Prediction],
    taus: Any,
    x: Array,
    ids: Array | None = None,
    seed: int = 0,
) -> Array:
    """`x` (b, t, h, w, c) taken down `taus`: (steps + 1,) for all, or (steps + 1, b), or (steps + 1, b, t).

    `ids` (b,) say whose noise each example has, if not each its own. One `lax.scan`, compiled as a whole.
    """
    return marcher(solver, process, denoise, seed)(x, rows(taus, x), *(() if ids is None else (ids,)))


def rows(taus: Any, x: Array) -> Array:
    """`taus` as (steps + 1, b, t)."""
    taus = jnp.asarray(taus, x.dtype)
    return jnp.broadcast_to(taus.reshape(taus.shape + (1,) * (3 - taus.ndim)), (len(taus), *x.shape[:2]))


def marcher(
    solver: Solver, process: Process, denoise: Callable[..., Prediction], seed: int = 0
) -> Callable[..., Array]:
    """The compiled program (x (b, t, h, w, c), rows (steps + 1, b, t), ids (b,)) -> x. Frames that wait stay as they
    are, bit for bit."""

    @jax.jit
    def run(x: Array, rows: Array, ids: Array | None = None) -> Array:
        ids = jnp.arange(x.shape[0], dtype=jnp.uint32) if ids is None else ids
        noise = Brownian(per_example(stream(seed, "lab"), ids), x.shape[1:], process.noise)

        def step(state: tuple[Array, Any], now: tuple[Array, Array]) -> tuple[tuple[Array, Any], None]:
            (x, carry), (tau, tau_next) = state, now
            return advance(solver, denoise, process, x, tau, tau_next, noise, carry), None

        return jax.lax.scan(step, (x, solver.start(x)), (rows[:-1], rows[1:]))[0][0]

    return run


def abreast(grids: Sequence[np.ndarray]) -> np.ndarray:
    """Grids of any lengths as columns (most steps + 1, grids): shorter ones wait at their start; all end at once."""
    longest = max(map(len, grids))
    return np.stack([np.concatenate([np.full(longest - len(taus), taus[0]), taus]) for taus in grids], 1)


def order(steps: Sequence[int], errors: Sequence[float]) -> float:
    """How fast errors fall: minus the slope of log error over log steps."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])
