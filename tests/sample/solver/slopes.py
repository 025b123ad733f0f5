"""Truths for solvers of every kind: the exact ODE of two laws at once, and the exact law that a noisy solver leaves."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from diorama.process import EDM, CosineVP, Prediction, RectifiedFlow
from tests.sample.truths import gaussian, gaussian_map, march, mixture, order

MEAN, VARIANCE, STD = 0.3, 0.25, 0.2
MEANS = np.stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3)], axis=1)
THREE = [RectifiedFlow(), CosineVP(), EDM()]
STARTS = np.random.default_rng(0).normal(size=(8, 2, 1, 1, 2))


def both(process):
    """Frame 0 is of a Gaussian, frame 1 of six in the plane."""

    def denoise(x, tau):
        one, six = gaussian(process, MEAN, VARIANCE), mixture(process, MEANS, STD)
        pairs = one(x[:, :1], tau[:, :1]), six(x[:, 1:], tau[:, 1:])
        return Prediction(*(jnp.concatenate([getattr(p, k) for p in pairs], axis=1) for k in ("x0", "epsilon")))

    return denoise


def exact(process, x, high, low):
    """Where the ODE takes x (b, 2, 1, 1, 2) of `both`: in closed form, and by SciPy at 1e-12."""
    first = gaussian_map(process, x[:, :1], high, low, MEAN, VARIANCE)
    (alpha, sigma), (alpha_next, sigma_next) = levels(process, high), levels(process, low)
    scale, scale_next = float(alpha + sigma), float(alpha_next + sigma_next)
    y = tuple(np.asarray(x[:, 1]).ravel() / scale)
    ends = scale_next * flow(y, float(sigma / scale), float(sigma_next / scale_next)).reshape(first.shape)
    return jnp.concatenate([first, ends], axis=1)


def levels(process, tau):
    return process.alpha(jnp.asarray(tau)), process.sigma(jnp.asarray(tau))


@cache
def flow(start, t, t_next):
    """Rectified flow's ODE of the mixture, in NumPy."""

    def velocity(t, y):
        apart = y.reshape(-1, 1, 2) - (1 - t) * MEANS
        total = ((1 - t) * STD) ** 2 + t**2
        share = -(apart**2).sum(-1) / total / 2
        share = np.exp(share - share.max(1, keepdims=True))
        share = (share / share.sum(1, keepdims=True))[..., None]
        x0 = MEANS + (1 - t) * STD**2 / total * apart
        return (share * (t / total * apart - x0)).sum(1).ravel()

    return solve_ivp(velocity, (t, t_next), start, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]


def slopes(solver, process, grid, steps=(24, 48, 96)):
    """The slope of the RMS error, and the last error, of the Gaussian and of the mixture; `grid(n)` is (n + 1,).

    All numbers of steps are walked in one batch: those that are done wait at the end.
    """
    rows = np.stack([np.pad(grid(n), (0, max(steps) - n), mode="edge") for n in steps], axis=1)
    high, low = rows[0, 0], rows[-1, 0]
    x = jnp.asarray(STARTS) * jnp.hypot(*levels(process, high))
    found = march(
        solver, process, both(process), np.repeat(rows, len(x), axis=1), jnp.tile(x, (len(steps), 1, 1, 1, 1))
    )
    apart = found.reshape(len(steps), *x.shape) - exact(process, x, high, low)
    errors = np.asarray(jnp.sqrt(jnp.mean(apart**2, axis=(1, 3, 4, 5))))  # (steps, data)
    return [(order(steps, errors[:, data]), errors[-1, data]) for data in range(2)]


def even_in_logsnr(process, high=-8.0, low=8.0):
    """`grid(n)` between two finite levels."""
    return lambda n: np.asarray(process.tau_of_logsnr(jnp.linspace(high, low, n + 1)))


class Told:
    """Noise that is told: `draws` one after the other, as a step asks."""

    def __init__(self, draws):
        self.draws, self.asked = draws, []

    def __call__(self, tau, tau_next):
        self.asked.append((tau, tau_next))
        return self.draws[len(self.asked) - 1]

    def knowing(self, tau):
        return self


def law(solver, process, taus, mean=MEAN, variance=VARIANCE, denoise=None):
    """Mean and variance of what a noisy solver makes of Gaussian data, exactly: its steps are linear."""
    shape = (5, 1, 1, 1, 1)
    denoise = denoise or gaussian(process, mean, variance)

    def step(moments, now):
        unit = jnp.eye(5).reshape(5, *shape)
        x, noise = unit[1], Told(unit[2:])  # each tells of itself in an example of its own; the first has none
        y, _ = solver.step(denoise, process, x, *(jnp.full(shape[:2], t) for t in now), noise, solver.start(x))
        bias, *gains = (y[0], *(y[1:] - y[0]))
        return (gains[0] * moments[0] + bias, sum((g**2 for g in gains[1:]), gains[0] ** 2 * moments[1])), None

    @jax.jit
    def run(taus):
        alpha, sigma = process.alpha(taus[0]), process.sigma(taus[0])
        start = jnp.full((1, 1, 1, 1), alpha * mean), jnp.full((1, 1, 1, 1), alpha**2 * variance + sigma**2)
        return jax.lax.scan(step, start, (taus[:-1], taus[1:]))[0]

    return tuple(float(moment.squeeze()) for moment in run(jnp.asarray(taus)))
