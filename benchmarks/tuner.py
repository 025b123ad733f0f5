"""The tuner against every fixed choice, on laws whose exact ODE is known.

    python -m benchmarks.tuner [--evaluations 8,10,16] [--examples 4096] [--only NAME]

Grids are fitted on so many examples and judged on as many others; the reference is the probability-flow ODE by the
8th-order rule at a relative tolerance of 1e-12 (`Law.flow`), from the same noise. Errors are the root of the mean
square over examples and values, with 95 % intervals by the bootstrap over examples; all in float64. So many examples,
because the few that end in another mode make most of it.
"""

import argparse
from functools import cache, partial
from time import monotonic

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.random import stream
from diorama.evaluate.truth import Field, FieldMixture, Law, Mixture, ring
from diorama.process import EDM, CosineVP, Process, RectifiedFlow
from diorama.sample import Solver
from diorama.sample.tune import Examples, descend, tune

MOST = 64  # steps of any grid


def problems() -> dict[str, tuple[Law, Process]]:
    """Laws and the processes that their samples come by."""
    uneven = Mixture(((-1.5, 0.0), (0.5, 1.0), (1.0, -1.2)), (0.1, 0.4, 0.2), (0.2, 0.5, 0.3))
    size = (1, 16, 16, 1)
    fields = FieldMixture((Field(size, 2.0, std=0.7, mean=0.7), Field(size, 3.0, std=0.5, mean=-0.7)), (0.4, 0.6))
    return {
        "ring": (ring(std=0.25), EDM()),  # six modes: its Euler and Heun rows are those of algorithms.md 2.1.5
        "uneven": (uneven, RectifiedFlow()),
        "fields": (fields, CosineVP()),
    }


def examples(law: Law, process: Process, n: int, name: str) -> Examples:
    """Noise at tau = 1, and where the exact ODE takes it."""
    epsilon = jax.random.normal(stream(0, f"tuner/{name}"), (n, *law.shape), jnp.float64)
    x = process.sigma(jnp.ones(())) * epsilon
    denoise = partial(law.denoiser(process), conditions=None)

    @cache
    def program(solver: Solver):
        return jax.jit(lambda taus, steps: descend(solver, process, denoise, x, taus, steps))

    def ends(solver: Solver, taus: np.ndarray) -> np.ndarray:
        return program(solver)(jnp.asarray(np.pad(taus, (0, MOST + 1 - len(taus)))), len(taus) - 1)

    return Examples(ends, np.asarray(law.flow(process, x, 1.0, 0.0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", default="8,10,16")
    parser.add_argument("--examples", type=int, default=4096)
    parser.add_argument("--only")
    parser.add_argument("--rows", type=int, default=4)
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    for name, (law, process) in problems().items():
        if args.only not in (None, name):
            continue
        fit, judge = (examples(law, process, args.examples, f"{name}/{part}") for part in ("fit", "judge"))
        for evaluations in map(int, args.evaluations.split(",")):
            start = monotonic()
            found = tune(fit, judge, process, evaluations)
            ratio, low, high = found.ratio
            print(f"\n{name}, {evaluations} evaluations: {ratio:.3f} [{low:.3f}, {high:.3f}] of the best fixed choice; "
                  f"{monotonic() - start:.0f} s")  # fmt: skip
            for label, row in [("tuned", found.best), *(("fixed", row) for row in found.fixed[: args.rows])]:
                grid = "fitted" if label == "tuned" else row.grid
                print(f"  {label}  {row.error:.3e} [{row.low:.3e}, {row.high:.3e}]  {row.solver}, {grid}, "
                      f"{row.steps} steps, {row.evaluations} evaluations", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
