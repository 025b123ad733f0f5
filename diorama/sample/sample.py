"""Sampling: a denoiser, a solver and a plan make clips, in one `lax.scan`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Shape
from diorama.core.errors import UserError
from diorama.core.random import per_example, stream
from diorama.process.gaussian import Process, expand
from diorama.process.noise import Brownian
from diorama.process.prediction import Prediction
from diorama.sample.guidance import Denoiser
from diorama.sample.solver import Solver, advance


def sample(
    denoiser: Denoiser,
    process: Process,
    solver: Solver,
    plan: np.ndarray,
    ids: Array,
    shape: Shape,
    *,
    seed: int,
    conditions: Any = None,
    given: Array | None = None,
) -> Array:
    """Clips (b, *shape) for `ids` (b,) uint32, `shape` = (t, h, w, c).

    `plan` (steps + 1, t) holds the noise time of every frame before each step (`diorama.sample.plan`). A frame whose
    noise time does not change is left exactly as it is. Frames that start below tau = 1 start from `given`
    (b, *shape), noised to their start: known frames (tau = 0 throughout), or media to vary (from tau = 0.6, say).
    Where a plan's times rise, a frame is given fresh noise without asking the denoiser ("restart", arXiv 2306.14878),
    and comes down again.

    All randomness is a function of (seed, example id, noise time): an id's clip is the same alone and in any batch, and
    with more steps a stochastic solver walks the same path more closely.

    This is a pure function to call inside `jax.jit`. Pass what holds arrays as arguments and close over the rest, and
    one compilation serves every call of the same shapes:

        @jax.jit
        def draw(model, ids, conditions, null):
            return sample(ClassifierFree(3.0)(model, process, null), process, Heun(), plan, ids, shape,
                          seed=0, conditions=conditions)

    Raises `UserError` for a plan that does not fit the frames, leaves [0, 1], or needs `given` and gets none.
    """
    return walk(denoiser, process, solver, plan, ids, shape, seed, conditions, given)[0]


def walk(
    denoiser: Denoiser, process: Process, solver: Solver, plan: np.ndarray, ids: Array, shape: Shape, seed: int,
    conditions: Any, given: Array | None, look: bool = False,
) -> tuple[Array, Array | None]:  # fmt: skip
    """As `sample`; with `look`, also x0 (steps, b, *shape) as the denoiser predicts it before each step."""
    check(plan, shape, given)
    process = process.of(shape)
    start = process.noise.draw(stream(seed, "sample/start"), ids, shape)
    motion = Brownian(per_example(stream(seed, "sample/step"), ids), shape, process.noise)
    taus = jnp.broadcast_to(jnp.asarray(plan)[:, None], (len(plan), len(ids), shape[0]))
    return descend(denoiser, process, solver, plan, taus, start, motion, conditions, given, look)


def descend(
    denoiser: Denoiser, process: Process, solver: Solver, plan: np.ndarray, taus: Array, start: Array, motion: Brownian,
    conditions: Any, given: Array | None, look: bool = False,
) -> tuple[Array, Array | None]:  # fmt: skip
    """As `walk`, of noise that is drawn: `start` (b, t, h, w, c) and `motion`.

    `taus` (steps + 1, b, t) are the times of `plan`, but for frames that are known: those may stand still.
    """
    known = jnp.zeros_like(start) if given is None else jnp.where(expand(taus[0], start.ndim) < 1, given, 0.0)
    rises = plan[1:] > plan[:-1]
    descents = np.concatenate([[0], np.cumsum(rises.any(1))[:-1]])  # a motion for each: no noise is used twice

    def denoise(x: Array, tau: Array) -> Prediction:
        return denoiser(x, tau, conditions)

    def step(state: tuple[Array, Any, Any], now: tuple[Array, ...]) -> tuple[tuple[Array, Any, Any], Array | None]:
        (x, carry, before), (descent, tau, tau_next) = state, now
        seen = denoise(x, tau).x0 if look else None
        noise, down = motion.again(descent), jnp.minimum(tau, tau_next)
        if lasting:
            noise = noise.knowing(tau, before).knowing(down)

        def descend() -> tuple[Array, Any]:
            return advance(solver, denoise, process, x, tau, down, noise, carry)

        moved, learnt = jax.lax.cond(jnp.any(down < tau), descend, lambda: (x, carry)) if rises.any() else descend()
        if rises.any():
            fresh = motion.again(len(plan) + descent)(tau, tau_next)
            risen = tau_next > tau
            moved = jnp.where(expand(risen, x.ndim), process.renoise(x, tau, tau_next, fresh), moved)
            blank = solver.start(x)
            learnt = jax.tree.map(lambda new, old: jnp.where(expand(risen, old.ndim), new, old), blank, learnt)
        return (moved, learnt, noise.motion(down) if lasting else ()), seen

    lasting = solver.stochastic and not rises.any()  # one motion: where a step ends in it, the next one begins
    x = process.add_noise(known, start, taus[0])
    before = motion.again(0).motion(taus[0]) if lasting else ()
    (x, _, _), x0 = jax.lax.scan(step, (x, solver.start(x), before), (jnp.asarray(descents), taus[:-1], taus[1:]))
    return x, x0


def check(plan: np.ndarray, shape: Shape, given: Array | None) -> None:
    """Raises `UserError` for a plan that clips of `shape` with the frames `given` cannot follow."""
    if plan.ndim != 2 or plan.shape[1] != shape[0]:
        raise UserError(f"a plan for clips of {shape[0]} frames is (steps + 1, {shape[0]}), not {plan.shape}")
    if not (plan >= 0).all() or not (plan <= 1).all():  # NaN too
        raise UserError(f"noise times lie in [0, 1]; this plan goes from {plan.min():g} to {plan.max():g}")
    if given is None and (plan[0] < 1).any():
        frames = ", ".join(map(str, np.flatnonzero(plan[0] < 1)))
        raise UserError(f"the plan starts frames {frames} below tau = 1, so pass `given` with their content")
