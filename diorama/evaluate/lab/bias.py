"""Whether stochastic solvers keep the law: moments of their samples against the truth, with confidence.

A clip holds points of the plane, from a ring of six Gaussians, and numbers from N(0.3, 0.25) beside them. Reported are
the mean and the variance of the numbers, and of the points how much less likely they are than exact draws (nats).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.evaluate.lab.march import abreast, marcher
from diorama.evaluate.lab.march import rows as expanded
from diorama.evaluate.lab.row import Row
from diorama.evaluate.truth import Gaussian, ring
from diorama.process import Prediction, Process, RectifiedFlow
from diorama.sample import Solver, grid

NUMBERS, POINTS = Gaussian(0.3, 0.25), ring(6, 1.0, 0.26)
SIDE = 4  # a clip is SIDE x SIDE points, and as many numbers


def rows(quick: bool, process: Process, solvers: Sequence[Solver]) -> list[Row]:
    """One a stochastic solver."""
    steps, clips = ((8, 32), 48) if quick else ((8, 32, 128), 512)
    found = [solver for solver in solvers if solver.stochastic]
    return [
        Row("bias", str(solver), (process, steps, clips), (solver, process),
            partial(measure, solver, process, steps, clips))
        for solver in found
    ]  # fmt: skip


def measure(solver: Solver, process: Process, steps: Sequence[int], clips: int) -> dict[str, Any]:
    """[value, half-width at 95 %] of each figure less its truth, for every number of steps of the Karras grid."""

    def denoise(x: Array, tau: Array) -> Prediction:
        both = [law.denoiser(process)(part, tau, None) for law, part in ((POINTS, x[..., :2]), (NUMBERS, x[..., 2:]))]
        return jax.tree.map(lambda *parts: jnp.concatenate(parts, -1), *both)

    taus = np.repeat(abreast([grid.Karras()(process, n) for n in steps]), clips, axis=1)
    size = (len(steps) * clips, 1, SIDE, SIDE, 3)
    x = jax.random.normal(jax.random.key(1), size) * process.sigma(jnp.ones(()))
    found = marcher(solver, process, denoise)(x, expanded(taus, x)).reshape(len(steps), clips, SIDE * SIDE, 3)
    numbers = np.asarray(found[..., 2], np.float64).reshape(len(steps), -1)
    exact = POINTS.draw(jax.random.key(2), 100_000)
    drawn = np.asarray(_likely(exact), np.float64)
    likely = np.asarray(_likely(found[..., None, None, :2].reshape(-1, *POINTS.shape)), np.float64)
    likely = likely.reshape(len(steps), -1)
    n = numbers.shape[1]
    variance = numbers.var(1)
    return {
        "steps": list(steps), "n": n,
        "mean": [[m - NUMBERS.mean, 1.96 * s] for m, s in zip(numbers.mean(1), np.sqrt(variance / n), strict=True)],
        "variance": [[v / NUMBERS.variance - 1, 1.96 * np.sqrt(2 / n) * v / NUMBERS.variance] for v in variance],
        "likelihood": [
            [float(one.mean() - drawn.mean()), 1.96 * float(np.sqrt(one.var() / n + drawn.var() / len(drawn)))]
            for one in likely
        ],
    }  # fmt: skip


@jax.jit
def _likely(x: Array) -> Array:
    """log p of data; every process agrees on those."""
    return POINTS.logp(x, RectifiedFlow())
