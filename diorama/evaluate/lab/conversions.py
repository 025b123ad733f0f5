"""Every prediction to every other and back, over the whole range of noise, in single precision."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from diorama.evaluate.lab.row import Row
from diorama.process import PROCESSES, Prediction, Process, ShiftedBySize
from diorama.process.prediction import PAIR, VALUE
from diorama.sample import Solver

TAUS = np.concatenate([[0.0, 1e-6, 1e-4], np.linspace(0.01, 0.99, 99), [1 - 1e-4, 1 - 1e-6, 1.0]])


def rows(quick: bool, process: Process, solvers: Sequence[Solver]) -> list[Row]:
    """One a process, with its defaults."""
    found = [kind() for kind in PROCESSES if kind is not ShiftedBySize]
    return [Row("conversions", str(one), (), (one,), partial(measure, one)) for one in found]


def measure(process: Process) -> dict[str, Any]:
    """For every two predictions, how far a pair misses that went by way of the first, then the second, and back.

    What is said of x0 reaches x_tau with the factor alpha, and what is said of epsilon with sigma: the worse of
    alpha d |error of x0| and sigma |error of epsilon| counts, over the root mean square of x_tau. More cannot be kept:
    at sigma = 1e-6 of the data, epsilon is below the last digit of x_tau = x0, whatever stands for the pair.
    """
    x0, epsilon = np.random.default_rng(0).normal(size=(2, len(TAUS), 1, 2, 2, 1))
    level = process.at(jnp.asarray(TAUS, jnp.float32), 5)
    pair = Prediction(jnp.asarray(process.sigma_data * x0, jnp.float32), jnp.asarray(epsilon, jnp.float32))
    x = level.alpha * pair.x0 + level.sigma * pair.epsilon
    worst = {}
    for source in VALUE:
        for target in PAIR:
            there = Prediction.of(source, pair.to(source, level), x, level)
            back = Prediction.of(target, there.to(target, level), x, level)
            missed = jnp.maximum(
                level.alpha * jnp.abs(back.x0 - pair.x0), level.sigma * jnp.abs(back.epsilon - pair.epsilon)
            )
            worst[f"{source} → {target}"] = float(jnp.max(missed / level.scale))
    return {"worst": worst}
