"""Error against network evaluations: every deterministic solver on every grid, on a mixture in double precision.

Root mean squares, over 256 points from pure noise, of the distance to where the probability-flow ODE takes the same
noise. On the Karras grid with EDM this is the measurement of the reference table (`REFERENCE`).
"""

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.evaluate.lab.march import abreast, marcher
from diorama.evaluate.lab.march import rows as expanded
from diorama.evaluate.lab.row import Row
from diorama.evaluate.truth import ring
from diorama.process import Brownian, Prediction, Process
from diorama.sample import Solver, grid
from diorama.sample.solver.adaptive import Adaptive

LAW = ring(6, 1.0, 0.26)
STEPS = (5, 8, 10, 16, 20, 32, 64, 128)

# Peers on a ring of six modes whose radius and spread are not recorded; LAW is what comes nearest to the first three.
REFERENCE: dict[str, dict[int, float]] = {
    "k-diffusion Euler": {5: 3.5e-1, 10: 1.4e-1, 20: 6.9e-2, 32: 4.2e-2, 64: 2.1e-2, 128: 1.0e-2},
    "k-diffusion Heun": {5: 1.1e0, 10: 1.3e-1, 20: 2.2e-2, 32: 7.6e-3, 64: 1.7e-3, 128: 4.1e-4},
    "k-diffusion DPM2": {5: 7.1e-1, 10: 7.1e-2, 20: 1.3e-2, 32: 4.6e-3, 64: 1.1e-3, 128: 2.5e-4},
    "k-diffusion LMS-4": {5: 3.2e-1, 10: 8.2e-2, 20: 1.5e-2, 32: 3.6e-3, 64: 3.4e-4, 128: 2.5e-5},
    "k-diffusion DPM++2S": {5: 1.1e-1, 10: 3.5e-2, 20: 8.8e-3, 32: 3.5e-3, 64: 8.9e-4, 128: 2.3e-4},
    "DPM++2M (both)": {5: 9.0e-2, 10: 1.5e-1, 20: 3.0e-2, 32: 9.5e-3, 64: 2.0e-3, 128: 4.7e-4},
    "diffusers DPM++3M": {5: 2.4e-1, 10: 2.3e-1, 20: 1.2e-2, 32: 1.2e-3, 64: 2.6e-4, 128: 9.0e-5},
}


def rows(quick: bool, process: Process, solvers: Sequence[Solver]) -> list[Row]:
    """One a deterministic solver."""
    steps, points = (STEPS[:6], 64) if quick else (STEPS, 256)
    found = [solver for solver in solvers if not solver.stochastic]
    return [
        Row("errors", str(solver), (process, steps, points), (solver, process),
            partial(measure, solver, process, steps, points))
        for solver in found
    ]  # fmt: skip


def measure(solver: Solver, process: Process, steps: Sequence[int], points: int) -> dict[str, Any]:
    """Errors by grid and number of steps, and what those cost in evaluations; all side by side in one program."""
    with jax.enable_x64(True):
        x, exact = truth(process, points)
        grids = {name: [times(process, n) for n in steps] for name, times in every_grid().items()}
        columns = abreast([taus for of_one in grids.values() for taus in of_one])
        batch = jnp.tile(x, (columns.shape[1], 1, 1, 1, 1))
        taus = expanded(np.repeat(columns, points, axis=1), batch)
        found = np.asarray(marcher(solver, process, LAW.denoiser(process))(batch, taus))
        apart = found.reshape(len(grids), len(steps), -1) - exact.ravel()
        errors = np.sqrt(np.mean(apart**2, axis=-1))
        inner, last = (evaluations(solver, process, ends) for ends in ((0.5, 0.4), (0.1, 0.0)))
    return {
        "steps": list(steps), "evaluations": [(n - 1) * inner + last for n in steps],
        "errors": dict(zip(grids, errors.tolist(), strict=True)),
        "adaptive": isinstance(solver, Adaptive),  # then it asks more often than that in longer steps
    }  # fmt: skip


def every_grid() -> dict[str, grid.Grid]:
    """The settings to show of all, by name; a grid that is fitted to some data has none."""
    found = dict[str, grid.Grid]()
    for setting in (setting for kind in grid.GRIDS for setting in kind.examples()):
        name = type(setting).__name__
        found[str(setting) if name in found else name] = setting
    return found


def evaluations(solver: Solver, process: Process, ends: tuple[float, float]) -> int:
    """How often the step from one noise time to the other asks the denoiser."""
    asked: list[int] = []
    one_step(solver, process, ends, asked)
    return len(asked)


def one_step(
    solver: Solver, process: Process, ends: tuple[float, float] = (0.5, 0.4), asked: list[int] | None = None
) -> Any:
    """What `solver.step` returns, not compiled; a 1 is put into `asked` whenever it asks the denoiser."""

    def denoise(x: Array, tau: Array) -> Prediction:
        if asked is not None:
            asked.append(1)
        seen = LAW.look(x, process, tau)
        return Prediction(seen.x0, seen.epsilon)

    x = jnp.full((1, *LAW.shape), 0.5)
    noise = Brownian(jax.random.key(0)[None], LAW.shape, process.noise)
    with jax.disable_jit():
        tau, tau_next = (jnp.full((1, 1), end) for end in ends)
        return solver.step(denoise, process, x, tau, tau_next, noise, solver.start(x))


@cache
def truth(process: Process, points: int) -> tuple[Array, np.ndarray]:
    """Pure noise (n, ...) and where the ODE takes it."""
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(points, *LAW.shape))) * process.sigma(jnp.ones(()))
    return noise, np.asarray(LAW.flow(process, noise, 1.0, 0.0))
