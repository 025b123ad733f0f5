"""Denoisers that know the truth: the exact E[x0 | x_tau] of laws simple enough to write down."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.random import per_example, stream
from diorama.process import Level, Prediction, Process
from diorama.sample import Solver


def gaussian(process: Process, mean: float = 0.0, variance: jax.Array | float = 1.0) -> Callable:
    """x0 ~ N(mean, variance), everywhere alike; conditions, where given, are each example's variance (b,)."""

    def denoise(x, tau, conditions=None):
        at = process.at(tau, x.ndim)
        var = variance if conditions is None else conditions.reshape(-1, *(1,) * (x.ndim - 1))
        return wiener(at, x - at.alpha * mean, var, mean)

    return denoise


def wiener(at: Level, x: jax.Array, variance: jax.Array | float, mean: float = 0.0) -> Prediction:
    """The pair for centred data of a known variance, written so that neither end divides by zero."""
    total = at.alpha**2 * variance + at.sigma**2
    return Prediction(mean + at.alpha * variance * x / total, at.sigma * x / total)


def gaussian_map(process: Process, x, tau, tau_next, mean: float = 0.0, variance: float = 1.0):
    """Where the probability-flow ODE takes x (Gaussian data): algorithms 2.1.1 for any process."""
    a, b = process.at(tau, 0), process.at(tau_next, 0)
    spread = jnp.sqrt((b.alpha**2 * variance + b.sigma**2) / (a.alpha**2 * variance + a.sigma**2))
    return b.alpha * mean + (x - a.alpha * mean) * spread


def mixture(process: Process, means: np.ndarray, std: float) -> Callable:
    """Equal Gaussians of standard deviation `std` about `means` (m, c), independent at every position."""
    means = jnp.asarray(means)

    def denoise(x, tau, conditions=None):
        at = process.at(tau, x.ndim)
        total = at.alpha**2 * std**2 + at.sigma**2
        apart = x[..., None, :] - at.alpha[..., None] * means  # (..., m, c)
        share = jax.nn.softmax(-0.5 * (apart**2).sum(-1) / total, axis=-1)
        epsilon = at.sigma / total * (share[..., None] * apart).sum(-2)
        x0 = (share[..., None] * (means + (at.alpha * std**2 / total)[..., None] * apart)).sum(-2)
        return Prediction(x0, epsilon)

    return denoise


def field(process: Process, power: np.ndarray) -> Callable:
    """A Gaussian random field of power spectrum `power` (h, w): the denoiser is a Wiener filter."""
    spectrum = jnp.asarray(power)[:, :, None]

    def denoise(x, tau, conditions=None):
        pair = wiener(process.at(tau, x.ndim), jnp.fft.fft2(x, axes=(-3, -2)), spectrum)
        return jax.tree.map(lambda p: jnp.fft.ifft2(p, axes=(-3, -2)).real, pair)

    return denoise


def march(solver: Solver, process: Process, denoise: Callable, taus, x: jax.Array) -> jax.Array:
    """`x` (b, t, h, w, c) taken down `taus`: (steps + 1,) for all, or (steps + 1, b), or (steps + 1, b, t)."""
    ids = jnp.arange(x.shape[0], dtype=jnp.uint32)
    rows = jnp.asarray(taus, x.dtype)
    rows = jnp.broadcast_to(rows.reshape(rows.shape + (1,) * (3 - rows.ndim)), (len(rows), *x.shape[:2]))

    def step(state, now):
        number, tau, tau_next = now
        keys = per_example(stream(0, "test", number), ids)
        return solver.step(denoise, process, state[0], tau, tau_next, keys, state[1]), None

    @jax.jit
    def run(x, rows):
        return jax.lax.scan(step, (x, solver.start(x)), (jnp.arange(len(rows) - 1), rows[:-1], rows[1:]))[0][0]

    return run(x, rows)


def order(steps: list[int], errors: list[float]) -> float:
    """The slope of log error over log step size."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])
