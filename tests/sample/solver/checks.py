"""What solvers have to show, on laws whose denoiser and flow are known (`diorama.evaluate.truth`)."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np

from diorama.evaluate.truth import Gaussian, ring
from diorama.process import EDM, CosineVP, RectifiedFlow
from tests.sample.truths import gaussian, march, order

MEAN, VARIANCE = 0.3, 0.25
GAUSSIAN, RING = Gaussian(MEAN, VARIANCE), ring(6, 1.0, 0.3)
THREE = [RectifiedFlow(), CosineVP(), EDM()]
STARTS = np.random.default_rng(0).normal(size=(8, 2, 1, 1, 2))


def levels(process, low, high, n, even="logsnr"):
    """Noise times (n + 1,) between two logsnr, even in logsnr or in sigma / alpha."""
    ends = np.asarray([low, high])
    steps = np.linspace(*ends, n + 1) if even == "logsnr" else -2 * np.log(np.linspace(*np.exp(-ends / 2), n + 1))
    return np.asarray(process.tau_of_logsnr(jnp.asarray(steps)))


def start(process, tau, b=8):
    """Noise (b, 1, 1, 1, 1) as it is at `tau`."""
    spread = jnp.hypot(process.alpha(jnp.asarray(tau)), process.sigma(jnp.asarray(tau)))
    return jnp.asarray(np.random.default_rng(0).normal(size=(b, 1, 1, 1, 1))) * spread


def both(process):
    """Frame 0 is of a Gaussian, frame 1 of six in the plane."""
    laws = [law.denoiser(process) for law in (GAUSSIAN, RING)]

    def denoise(x, tau):
        pairs = (law(x[:, f : f + 1], tau[:, f : f + 1]) for f, law in enumerate(laws))
        return jax.tree.map(lambda *frames: jnp.concatenate(frames, axis=1), *pairs)

    return denoise


@cache
def ends(process, high, low):
    """`STARTS` as noise at `high`, and where the ODE of `both` takes it: (8, 2, 1, 1, 2) each."""
    with jax.enable_x64(True):
        x = STARTS * float(jnp.hypot(process.alpha(jnp.asarray(high)), process.sigma(jnp.asarray(high))))
        ways = (law.flow(process, x[:, f : f + 1], high, low) for f, law in enumerate((GAUSSIAN, RING)))
        return x, np.concatenate([np.asarray(way) for way in ways], axis=1)


def slopes(solver, process, grid, steps=(24, 48, 96)):
    """Of the Gaussian and of the mixture: the slope of the RMS error, and the last error; `grid(n)` is (n + 1,).

    All numbers of steps are walked in one batch: those that are done wait at the end.
    """
    rows = np.stack([np.pad(grid(n), (0, max(steps) - n), mode="edge") for n in steps], axis=1)
    x, exact = ends(process, float(rows[0, 0]), float(rows[-1, 0]))
    found = march(
        solver, process, both(process), np.repeat(rows, len(x), axis=1), jnp.tile(x, (len(steps), 1, 1, 1, 1))
    )
    apart = found.reshape(len(steps), *x.shape) - exact
    errors = np.asarray(jnp.sqrt(jnp.mean(apart**2, axis=(1, 3, 4, 5))))  # (steps, data)
    return [(order(steps, errors[:, data]), errors[-1, data]) for data in range(2)]


def even_in_logsnr(process, high=-8.0, low=8.0):
    """`grid(n)` between two finite levels."""
    return lambda n: levels(process, high, low, n)


def far(solver, steps=(120, 240, 480)):
    """`slopes` of rectified flow and of a variance-exploding process, from so much noise that x0 does not move in the
    first steps, which are of lower order if a solver remembers."""
    processes = RectifiedFlow(), EDM(sigma_max=1e6)
    return [found for p in processes for found in slopes(solver, p, even_in_logsnr(p, -24.0, 2.0), steps)]


def point(solver, process, steps=(1, 2, 5)):
    """Data that are one point, MEAN, from pure noise in single precision: a frame for each number of steps.

    Solvers that extrapolate epsilon move x by sigma / alpha times its rounding times the sum of their weights, up to
    80 x 6e-8 x 7.
    """
    rows = [np.append(np.linspace(1.0, 0.0, n + 1), np.zeros(max(steps) - n)) for n in steps]
    x = jnp.repeat(start(process, 1.0).astype(jnp.float32), len(steps), axis=1)
    rows = np.broadcast_to(np.stack(rows, axis=1)[:, None], (max(steps) + 1, len(x), len(steps)))
    return march(solver, process, gaussian(process, MEAN, 0.0), rows, x)


def along(solver, process, denoise, taus, x, fresh=0.3):
    """`x` taken down `taus` (steps + 1,) with the same `fresh` noise in every step: no law, but quick to compile."""
    rows = jnp.broadcast_to(jnp.asarray(taus, x.dtype)[:, None, None], (len(taus), *x.shape[:2]))

    def step(state, now):
        noise = lambda tau, tau_next: fresh + 0 * x  # noqa: E731
        return solver.step(denoise, process, state[0], *now, noise, state[1]), None

    return jax.jit(lambda x: jax.lax.scan(step, (x, solver.start(x)), (rows[:-1], rows[1:]))[0][0])(x)


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
    """Mean and variance of what a noisy solver that remembers nothing makes of Gaussian data, exactly: its steps are
    linear."""
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


def drawn(solver, process, taus, b=4000):
    """Mean and variance of samples of Gaussian data with MEAN and VARIANCE; standard errors 0.008 and 2.2 %."""
    found = march(solver, process, gaussian(process, MEAN, VARIANCE), taus, start(process, 1.0, b=b))
    return float(found.mean()), float(found.var())


def waits(solver, process, taus):
    """Frames that wait before they start, half-way, or when done; and each alone. Both (4, 3, 1, 1, 1)."""
    x = start(process, 1.0, b=4)
    first, rest = [taus[0]] * 3, [taus[-1]] * 3
    ways = [*taus, *rest], [*first, *taus], [*taus[:4], *[taus[3]] * 3, *taus[4:]]
    rows = np.broadcast_to(np.stack(ways, axis=1)[:, None], (len(ways[0]), 4, 3))
    denoise = gaussian(process, MEAN, VARIANCE)
    together = march(solver, process, denoise, rows, jnp.tile(x, (1, 3, 1, 1, 1)))
    return together, jnp.tile(march(solver, process, denoise, taus, x), (1, 3, 1, 1, 1))
