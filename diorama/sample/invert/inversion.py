"""Inversion: from media to the noise that a sampler makes them of, and back."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Float, Int
from diorama.core.errors import UserError
from diorama.core.module import Module
from diorama.process.gaussian import Process
from diorama.process.noise import Brownian
from diorama.sample.solver import Denoise, Solver, advance


class Inverted(Module):
    """Where `Inversion.invert` arrived, and how well."""

    state: Any  # what `generate` starts from: arrays (b, t, h, w, c)
    residual: Float[Array, "b"]  # how far a step from there misses, in root mean square of noisy media; the worst step
    iterations: Int[Array, "b"]  # evaluations of the sampler's step, in the step that took most


@dataclass(frozen=True)
class Inversion:
    """A way up from media to noise, and the way down that belongs to it; both are pure functions for `jax.jit`.

    `denoise` is the denoiser with its conditions, guided or not; `plan` (steps + 1, t) falls, as for sampling, and
    begins where the way up is to end. A frame whose noise time does not change stays exactly as it is.
    """

    def invert(self, denoise: Denoise, process: Process, plan: np.ndarray, x: Array) -> Inverted:
        """`x` (b, t, h, w, c) at the last noise times of `plan`, taken up to its first."""
        raise NotImplementedError

    def generate(self, denoise: Denoise, process: Process, plan: np.ndarray, state: Any) -> Array:
        """The way back: `state` at the first noise times of `plan`, taken down to its last; (b, t, h, w, c)."""
        raise NotImplementedError


def walk(solver: Solver, denoise: Denoise, process: Process, rows: np.ndarray, x: Array) -> Array:
    """`x` (b, t, h, w, c) taken along `rows` (steps + 1, t), up or down, by a solver that draws no noise."""
    process = process.of(x.shape[1:])

    def step(state: tuple[Array, Any], now: tuple[Array, Array]) -> tuple[tuple[Array, Any], None]:
        (x, carry), (tau, tau_next) = state, now
        return advance(solver, denoise, process, x, tau, tau_next, silence(process, x), carry), None

    (x, _), _ = jax.lax.scan(step, (x, solver.start(x)), intervals(rows, x))
    return x


def leap(solver: Solver, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array) -> Array:
    """One step of a solver that neither draws noise nor remembers; frames that wait stay."""
    return advance(solver, denoise, process, x, tau, tau_next, silence(process, x), solver.start(x))[0]


def intervals(rows: np.ndarray, x: Array) -> tuple[Array, Array]:
    """The noise times before and after every step, each (steps, b, t), for `jax.lax.scan`."""
    taus = jnp.broadcast_to(jnp.asarray(rows, x.dtype)[:, None], (len(rows), *x.shape[:2]))
    return taus[:-1], taus[1:]


def silence(process: Process, x: Array) -> Brownian:
    """The noise that a solver without noise does not ask for."""
    return Brownian(jax.vmap(jax.random.key)(jnp.zeros(x.shape[0], jnp.uint32)), x.shape[1:], process.noise)


def noiseless(solver: Solver) -> None:
    """Raises `UserError` for a solver that draws noise: there is no way back through it."""
    if solver.stochastic:
        raise UserError(f"{solver} draws noise, which nothing inverts: invert with a solver without, such as Heun()")


def forgetful(solver: Solver) -> None:
    """Raises `UserError` for a solver that draws noise or remembers what it saw; it may count, as `Adaptive`."""
    noiseless(solver)
    carried = jax.eval_shape(solver.start, jax.ShapeDtypeStruct((1, 1, 1, 1, 1), jnp.float32))
    if any(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(carried)):
        raise UserError(f"{solver} remembers earlier steps, so no step is inverted alone: use Euler() or Heun()")
