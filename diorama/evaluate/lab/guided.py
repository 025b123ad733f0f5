"""What guidance samples: variances of N(0, 1) guided away from N(0, 2), against the truths of arXiv 2408.09000.

A clip is 8 x 8 independent values, so that rules with norms and angles have something to turn. The probability-flow
ODE is linear here under the plain rule, so its variance is that of the samples over that of their own noise.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.evaluate.lab.march import marcher
from diorama.evaluate.lab.march import rows as expanded
from diorama.evaluate.lab.row import Row
from diorama.evaluate.truth import Classes, tilted
from diorama.process import EDM, Process
from diorama.sample import DDIM, DPMSolver, Heun, Solver, grid, plan
from diorama.sample.guidance import GUIDANCES, ClassifierFree, Guidance
from diorama.sample.solver.langevin import Langevin
from diorama.sample.tilted import tilted as particles

PROCESS: Process = EDM(sigma_max=400.0)
CLASSES = Classes()
SCALES = (2.0, 3.0, 5.0)
SHAPE = (1, 8, 8, 1)


def rows(quick: bool, process: Process, solvers: Sequence[Solver]) -> list[Row]:
    """Every rule by the ODE, and what else is said to sample a guided law; the process is EDM's, to sigma 400."""
    clips = 64 if quick else 256
    rules = [rule for kind in GUIDANCES for rule in kind.examples()]
    ways: list[tuple[str, Solver, int, Any]] = [
        ("SDE, ancestral", DDIM(eta=1.0), 200 if quick else 800, "sde"),
        ("SDE, DPM-Solver++ 2M", DPMSolver(2, eta=1.0), 100 if quick else 300, "sde"),
        ("ODE and Langevin corrector", Langevin(16, size=0.2), 50 if quick else 200, "tilted"),
    ]
    found = [
        Row("guided", str(rule), (clips, 160), (rule,), partial(by_solver, Heun(), 160, rule, clips, "ode"))
        for rule in rules
    ]
    found += [
        Row("guided", f"{name}, {steps} steps", (clips, steps, solver), (solver, ClassifierFree()),
            partial(by_solver, solver, steps, ClassifierFree(), clips, truth))
        for name, solver, steps, truth in ways
    ]  # fmt: skip
    count = 64 if quick else 256
    return [*found, Row("guided", f"{count} weighted particles", (clips, 200), (DDIM(),), partial(by_particles, count))]


def by_solver(solver: Solver, steps: int, rule: Guidance, clips: int, truth: str) -> dict[str, Any]:
    """Variances that the rule reaches on a Karras grid, by scale, with their half-widths at 95 %."""
    b = clips * len(SCALES)
    scales = jnp.repeat(jnp.asarray(SCALES), clips)
    denoiser = rule.scaled(scales)(CLASSES.denoiser(PROCESS), PROCESS, jnp.zeros(1))
    noise = jax.random.normal(jax.random.key(3), (clips, *SHAPE))
    x = jnp.tile(noise, (len(SCALES), 1, 1, 1, 1)) * PROCESS.sigma(jnp.ones(()))
    taus = grid.Karras(sigma_max=400.0)(PROCESS, steps)
    found = marcher(solver, PROCESS, lambda x, tau: denoiser(x, tau, jnp.ones(b)))(x, expanded(taus, x))
    variance = np.asarray(found, np.float64).reshape(len(SCALES), -1).var(1)
    if not solver.stochastic:
        variance = variance / float(np.asarray(noise, np.float64).var())
    width = np.zeros(len(SCALES)) if not solver.stochastic else 1.96 * np.sqrt(2 / noise.size) * variance
    return _told(variance, width, truth)


def by_particles(count: int) -> dict[str, Any]:
    """Sequential Monte Carlo: clips of one value, whose weighted variance is averaged over many runs."""
    runs = 16384 // count
    matrix = plan.joint(grid.Karras(sigma_max=400.0)(PROCESS, 200), 1)

    @jax.jit
    def draw(ids: Array) -> tuple[Array, Array]:
        found = particles(
            CLASSES.denoiser(PROCESS), PROCESS, matrix, ids, (1, 1, 1, 1), reference=jnp.zeros(1),
            scale=jnp.repeat(jnp.asarray(SCALES), runs), particles=count, seed=0, conditions=jnp.ones(len(ids)),
        )  # fmt: skip
        return found.clips.reshape(len(ids), count), jnp.exp(found.log_weights)

    clips, weights = (np.asarray(part, np.float64) for part in draw(jnp.arange(len(SCALES) * runs, dtype=jnp.uint32)))
    square = (weights * clips**2).sum(1).reshape(len(SCALES), runs)  # of mean 0 by symmetry
    return _told(square.mean(1), 1.96 * square.std(1) / np.sqrt(runs), "tilted")


def _told(variance: np.ndarray, width: np.ndarray, truth: str) -> dict[str, Any]:
    return {
        "truth": truth, "scales": list(SCALES), "variance": variance.tolist(), "width": width.tolist(),
        "truths": {name: [float(of(scale)) for scale in SCALES] for name, of in TRUTHS.items()},
    }  # fmt: skip


TRUTHS: dict[str, Callable[[float], float]] = {
    "ode": lambda scale: float(CLASSES.ode_variance(scale)),
    "sde": lambda scale: float(CLASSES.sde_variance(scale)),
    "tilted": lambda scale: tilted(CLASSES, scale).variance,  # type: ignore[union-attr]
}
