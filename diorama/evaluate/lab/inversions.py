"""Data to noise to data, and the likelihood on the way: round trips and log densities against the truth, on a mixture
in double precision."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.core.discover import kinds, within
from diorama.evaluate.lab.row import Row
from diorama.evaluate.truth import ring
from diorama.process import Process
from diorama.process.noise import White
from diorama.sample import Euler, Heun, Solver, grid, plan
from diorama.sample.invert import Inversion
from diorama.sample.likelihood import Exact, Normal, likelihood

LAW = ring(6, 1.0, 0.26)
INVERSIONS = kinds(within("diorama.sample.invert"), Inversion)


def rows(quick: bool, process: Process, solvers: Sequence[Solver]) -> list[Row]:
    """Every inversion with solvers of first and of second order; and the likelihood, which knows white noise alone."""
    steps, points = ((10, 20), 32) if quick else ((10, 20, 50, 200), 128)
    found = [
        Row("inversions", str(way), (process, steps, points), (way, process),
            partial(measure, way, process, steps, points))
        for kind in INVERSIONS for way in map(partial(_exact, kind), (Euler(), Heun()))
    ]  # fmt: skip
    if isinstance(process.noise, White):
        counts = (8, 16, 32) if quick else (8, 16, 32, 64, 128)
        found.append(Row("likelihood", "exact trace", (process, counts, points), (process, Exact()),
                         partial(densities, process, counts, points)))  # fmt: skip
    return found


def _exact(kind: type[Inversion], solver: Solver) -> Inversion:
    """The method around `solver`; one that iterates does so to the last digits of double precision."""
    way = kind(solver)  # type: ignore[call-arg]
    return replace(way, tolerance=1e-13) if hasattr(way, "tolerance") else way  # type: ignore[call-arg]


def measure(inversion: Inversion, process: Process, steps: Sequence[int], points: int) -> dict[str, Any]:
    """Root mean squares of what comes back less what went, by number of steps of the Karras grid."""
    with jax.enable_x64(True):
        x = LAW.draw(jax.random.key(6), points)

        def denoise(x: Array, tau: Array) -> Any:
            return LAW.denoiser(process)(x, tau, None)

        def there_and_back(n: int) -> Array:
            matrix = plan.joint(grid.Karras()(process, n), 1)
            state = inversion.invert(denoise, process, matrix, x).state
            return inversion.generate(denoise, process, matrix, state)

        errors = [float(jnp.sqrt(jnp.mean((jax.jit(partial(there_and_back, n))() - x) ** 2))) for n in steps]
    return {"steps": list(steps), "errors": errors}


def densities(process: Process, steps: Sequence[int], points: int) -> dict[str, Any]:
    """Mean absolute errors of log p in nats, by steps of Runge and Kutta's rule, with the exact divergence."""
    with jax.enable_x64(True):
        x, ids = LAW.draw(jax.random.key(7), points), jnp.arange(points, dtype=jnp.uint32)
        tau = process.tau_of_logsnr(jnp.full((points, 1), -2 * np.log(0.002)))
        y = x + 0.002 * jax.random.normal(jax.random.key(8), x.shape)
        variance = float(np.mean(np.square(LAW.means))) + float(LAW.std) ** 2  # type: ignore[arg-type]

        def denoise(x: Array, tau: Array) -> Any:
            return LAW.denoiser(process)(x, tau, None)

        alpha = process.alpha(tau)[..., None, None, None]
        truth = LAW.logp(alpha * y, process, tau) + y[0].size * jnp.log(alpha.ravel())  # of y = x / alpha
        errors = []
        for n in steps:
            told = jax.jit(lambda y, n=n: likelihood(
                denoise, process, y, ids, trace=Exact(), steps=n, prior=Normal(0.0, variance)
            ).log_density)(y)  # fmt: skip
            errors.append(float(jnp.mean(jnp.abs(told - truth))))
    return {"steps": list(steps), "errors": errors}
