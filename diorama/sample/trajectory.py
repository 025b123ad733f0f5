"""The way of a sample: what the denoiser believes the data to be before each step, from coarse to fine."""

from typing import Any

import numpy as np

from diorama.core.array import Array, Shape
from diorama.process.gaussian import Process
from diorama.sample.guidance import Denoiser
from diorama.sample.plan import joint
from diorama.sample.sample import walk
from diorama.sample.solver import Solver


def trajectory(
    denoiser: Denoiser, process: Process, solver: Solver, plan: np.ndarray, ids: Array, shape: Shape, *, seed: int,
    conditions: Any = None, given: Array | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Clips (b, *shape) as `sample` makes them; and x0 (steps, b, *shape) as the denoiser predicts it before each step.

    All is as for `sample`, and a `plan` may also be noise times (steps + 1,), for all frames together. One program: an
    evaluation that the solver makes there too is made once, unless the times rise.
    """
    plan = plan if plan.ndim == 2 else joint(plan, shape[0])
    x, x0 = walk(denoiser, process, solver, plan, ids, shape, seed, conditions, given, look=True)
    assert x0 is not None
    return x, x0
