"""What every multistep solver has to show, on laws whose denoiser and flow are known."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from diorama.process import EDM, RectifiedFlow
from tests.sample.truths import gaussian, gaussian_map, march, mixture, order

MEAN, VARIANCE = 0.3, 0.25
ANGLES = np.arange(6) * np.pi / 3
RING, WIDTH = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1), 0.3  # six modes


def levels(process, low, high, n, even="logsnr"):
    """Noise times (n + 1,) between two logsnr, even in logsnr or in sigma / alpha."""
    ends = np.asarray([low, high])
    steps = np.linspace(*ends, n + 1) if even == "logsnr" else -2 * np.log(np.linspace(*np.exp(-ends / 2), n + 1))
    return np.asarray(process.tau_of_logsnr(jnp.asarray(steps)))


def start(process, tau, b=8, c=1):
    """Noise (b, 1, 1, 1, c) as it is at `tau`."""
    spread = jnp.hypot(process.alpha(jnp.asarray(tau)), process.sigma(jnp.asarray(tau)))
    return jnp.asarray(np.random.default_rng(0).normal(size=(b, 1, 1, 1, c))) * spread


def slope(solver, process, denoise, exact, x, ends, steps, even="logsnr"):
    """The order found, and the errors at `steps`: frames side by side in one program; who is done waits."""
    grids = [levels(process, *ends, n, even) for n in steps]
    rows = np.stack([np.append(taus, np.repeat(taus[-1], max(steps) - len(taus) + 1)) for taus in grids], axis=1)
    rows = np.broadcast_to(rows[:, None], (len(rows), len(x), len(steps)))
    found = march(solver, process, denoise, rows, jnp.repeat(x, len(steps), axis=1))
    errors = [float(e) for e in jnp.sqrt(jnp.mean((found - exact) ** 2, axis=(0, 2, 3, 4)))]
    return order(steps, errors), errors


def slopes(solver, **options):
    """On Gaussian data of rectified flow, and on the mixture of a variance-exploding process."""
    given = {"gaussian": (slope_on_gaussian, RectifiedFlow()), "mixture": (slope_on_mixture, EDM(sigma_max=1e5))}
    return {name: of(solver, process, **options.get(name, {})) for name, (of, process) in given.items()}


def slope_on_gaussian(solver, process, ends=(-24.0, 2.0), steps=(120, 240, 480), even="logsnr"):
    high, low = levels(process, *ends, 1)
    x = start(process, high)
    exact = gaussian_map(process, x, high, low, MEAN, VARIANCE)
    return slope(solver, process, gaussian(process, MEAN, VARIANCE), exact, x, ends, steps, even)


def slope_on_mixture(solver, process, ends=(-20.0, 4.0), steps=(100, 200, 400), even="logsnr"):
    """Against DOP853 at a relative tolerance of 1e-12, in log(sigma / alpha)."""
    high, low = levels(process, *ends, 1)
    x = start(process, high, c=2)
    exact = ring_map(np.asarray(x / process.alpha(jnp.asarray(high))), *np.exp(-np.asarray(ends) / 2))
    return slope(solver, process, mixture(process, RING, WIDTH), exact * process.alpha(low), x, ends, steps, even)


def ring_map(y, s, s_next):
    """Where the ODE dy = epsilon ds takes y = x / alpha, with s = sigma / alpha."""

    def rate(u, flat):
        points, total = flat.reshape(-1, 2), WIDTH**2 + np.exp(2 * u)
        apart = points[:, None] - RING
        logits = -(apart**2).sum(-1) / (2 * total)
        share = np.exp(logits - logits.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        return (np.exp(2 * u) / total * (share[..., None] * apart).sum(1)).ravel()

    ends = np.log(s), np.log(s_next)
    return solve_ivp(rate, ends, y.ravel(), method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1].reshape(y.shape)


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


def law(solver, process, taus, b=4000):
    """Mean and variance of samples of Gaussian data with MEAN and VARIANCE; standard errors 0.008 and 2.2 %."""
    x = start(process, 1.0, b=b)
    found = march(solver, process, gaussian(process, MEAN, VARIANCE), taus, x)
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
