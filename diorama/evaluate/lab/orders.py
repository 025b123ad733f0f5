"""Fitted order against nominal: how fast errors fall with the size of steps, on a mixture in double precision.

From noise in which x0 hardly moves (logsnr -20), so that a multistep solver's first steps, of lower order, are none of
its error; on steps even in logsnr, and on steps even in sigma / alpha from logsnr -5, which suit other solvers.
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.evaluate.lab.march import abreast, marcher, order
from diorama.evaluate.lab.march import rows as expanded
from diorama.evaluate.lab.row import Row
from diorama.evaluate.truth import ring
from diorama.process import Process, RectifiedFlow
from diorama.sample import Solver

LAW, PROCESS = ring(6, 1.0, 0.3), RectifiedFlow()
HIGH, MIDDLE, LOW = -20.0, -5.0, 2.0  # logsnr
STEPS = (200, 400, 800)


def rows(quick: bool, process: Process, solvers: Sequence[Solver]) -> list[Row]:
    """One a deterministic solver; the process is rectified flow, for orders do not depend on it."""
    steps, points = STEPS, 16 if quick else 64
    found = [solver for solver in solvers if not solver.stochastic]
    return [
        Row("orders", str(solver), (steps, points), (solver,), partial(measure, solver, steps, points))
        for solver in found
    ]


def measure(solver: Solver, steps: Sequence[int], points: int) -> dict[str, Any]:
    """Errors and slopes by kind of step: root mean square distances to where the exact ODE takes the same noise."""
    with jax.enable_x64(True):
        (x, exact), grids = truth(points), list(levels(steps))
        batch = jnp.tile(x, (1, len(steps), 1, 1, 1, 1)).reshape(2 * len(steps) * points, *LAW.shape)
        taus = expanded(np.repeat(abreast(grids), points, axis=1), batch)
        found = marcher(solver, PROCESS, LAW.denoiser(PROCESS))(batch, taus).reshape(2, len(steps), -1)
        errors = np.sqrt(np.mean((np.asarray(found) - exact.reshape(2, 1, -1)) ** 2, axis=-1))
    return {
        "nominal": solver.order, "steps": list(steps), "errors": errors.tolist(),
        "slopes": [order(steps, e) if (e > 0).all() else None for e in errors],
    }  # fmt: skip


def levels(steps: Sequence[int]) -> Sequence[np.ndarray]:
    """The grids: for every number of steps even in logsnr, then even in sigma / alpha."""
    even = [np.linspace(HIGH, LOW, n + 1) for n in steps]
    even += [-2 * np.log(np.linspace(np.exp(-MIDDLE / 2), np.exp(-LOW / 2), n + 1)) for n in steps]
    return [np.asarray(PROCESS.tau_of_logsnr(jnp.asarray(logsnr))) for logsnr in even]


@cache
def truth(points: int) -> tuple[Array, np.ndarray]:
    """The noise from which both kinds of grid start, (2, n, ...), and where the ODE takes it."""
    start, middle, end = (float(PROCESS.tau_of_logsnr(jnp.asarray(s))) for s in (HIGH, MIDDLE, LOW))
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(points, *LAW.shape)))
    between = jnp.asarray(LAW.flow(PROCESS, noise * start, start, middle))
    exact = LAW.flow(PROCESS, between, middle, end)
    return jnp.stack([noise * start, between]), np.stack([exact, exact])
