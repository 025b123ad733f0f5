"""What solvers themselves cost on this machine: compile time and time a step, with a denoiser that is almost free."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.machine import machine
from diorama.evaluate.lab.march import marcher
from diorama.evaluate.lab.march import rows as expanded
from diorama.evaluate.lab.row import Row
from diorama.evaluate.truth import Gaussian
from diorama.process import Process
from diorama.sample import Solver, grid

LAW, SHAPE, BATCH, STEPS = Gaussian(0.0, 1.0), (1, 32, 32, 4), 8, 20


def rows(quick: bool, process: Process, solvers: Sequence[Solver]) -> list[Row]:
    """One a solver; one setting of each class, in a quick run."""
    chosen = {type(solver): solver for solver in reversed(solvers)}.values() if quick else solvers
    return [
        Row("cost", str(solver), (process, machine()), (solver, process), partial(measure, solver, process))
        for solver in chosen
    ]


def measure(solver: Solver, process: Process) -> dict[str, Any]:
    """Seconds to compile the program of 20 steps, and milliseconds a step, the best of three runs."""
    x = jax.random.normal(jax.random.key(0), (BATCH, *SHAPE)) * process.sigma(jnp.ones(()))
    taus = expanded(grid.Karras()(process, STEPS), x)
    run = marcher(solver, process, LAW.denoiser(process))
    begun = time.perf_counter()
    compiled = run.lower(x, taus).compile()  # type: ignore[attr-defined]
    compiling = time.perf_counter() - begun
    best = min(_seconds(lambda: compiled(x, taus)) for _ in range(3))
    return {"compile": compiling, "step": 1000 * best / STEPS, "shape": [BATCH, *SHAPE], "steps": STEPS}


def _seconds(work: Any) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - begun
