"""The way of a sample: what the denoiser believes the data to be before each step, from coarse to fine."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Shape
from diorama.core.errors import UserError
from diorama.core.random import per_example, stream
from diorama.process.gaussian import Process
from diorama.process.noise import Brownian
from diorama.process.prediction import Prediction
from diorama.sample.guidance import Denoiser
from diorama.sample.solver import Solver


def trajectory(
    denoiser: Denoiser, process: Process, solver: Solver, taus: np.ndarray, ids: Array, shape: Shape, *, seed: int,
    conditions: Any = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Clips (b, *shape) as `sample` makes them of noise, all frames together down `taus`; and x0 (steps, b, *shape) as
    the denoiser predicts it before each step. One program: an evaluation that the solver makes there too is made once.

    taus: noise times (steps + 1,) that fall from 1. Raises `UserError` for others.
    """
    if taus[0] != 1 or (np.diff(taus) >= 0).any():
        raise UserError(f"the way of a sample begins at tau = 1 and goes down, not along {taus}")
    process = process.of(shape)
    x = process.add_noise(jnp.zeros(()), process.noise.draw(stream(seed, "sample/start"), ids, shape), 1.0)
    noise = Brownian(per_example(stream(seed, "sample/step"), ids), shape, process.noise).again(0)

    def denoise(x: Array, tau: Array) -> Prediction:
        return denoiser(x, tau, conditions)

    def step(state: tuple[Array, Any], now: tuple[Array, Array]) -> tuple[tuple[Array, Any], Array]:
        (x, carry), (tau, tau_next) = state, (jnp.broadcast_to(time, x.shape[:2]) for time in now)
        return solver.step(denoise, process, x, tau, tau_next, noise, carry), denoise(x, tau).x0

    times = jnp.asarray(taus, x.dtype)
    (x, _), x0 = jax.lax.scan(step, (x, solver.start(x)), (times[:-1], times[1:]))
    return x, x0
