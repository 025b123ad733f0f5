"""The tuner: which solver, at which noise times, ends nearest to the exact ODE with a given number of evaluations.

An error is how far samples end from where the probability-flow ODE takes the same noise: the root of the mean square
over examples and values. Solvers that draw noise end elsewhere by design, in other samples of the same law, so that
this says nothing of them: they are left out, and noise is injected nowhere. `Adaptive` chooses its evaluations itself.

A grid is fitted by few numbers: the logsnr of its first step, and the logarithms of its further steps in logsnr, are
those of a fixed grid plus a short cosine series (`bent`), so that times fall whatever the numbers are. The method of
Levenberg (1944) and Marquardt (1963) finds them with differences in place of derivatives: the denoiser is asked, as in
sampling, and one compiled program (`descend`) serves all grids of a solver, of any length. What was fitted to some
examples is judged on others; if it does not hold there, the fixed choice that suited the former best takes its place.
A few examples that end in another mode make most of an error: with fewer than some hundred of them it says little.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.core.random import per_example, stream
from diorama.process.gaussian import Process
from diorama.process.noise import Brownian
from diorama.process.prediction import Prediction
from diorama.sample.grid import GRIDS, Fitted, Grid
from diorama.sample.solver import DDIM, SOLVERS, Denoise, Solver
from diorama.sample.solver.adaptive import Adaptive

H = 0.02  # of the differences, in logsnr and in logarithms of its steps
DRAWS = 2000  # of the bootstrap


def descend(solver: Solver, process: Process, denoise: Denoise, x: Array, taus: Array, steps: Array | int) -> Array:
    """`x` (b, t, h, w, c) at tau = 1, taken down the first `steps` steps of `taus`, all frames together.

    Both may be traced; `taus` (most steps + 1,) is filled up behind its end with any numbers. For solvers that draw no
    noise.
    """
    silent = Brownian(per_example(stream(0, "tune"), jnp.arange(x.shape[0])), x.shape[1:], process.noise)
    taus = jnp.broadcast_to(taus.astype(x.dtype)[:, None, None], (len(taus), *x.shape[:2]))

    def step(i: Array, state: tuple[Array, Any]) -> tuple[Array, Any]:
        return solver.step(denoise, process, state[0], taus[i], taus[i + 1], silent, state[1])

    return jax.lax.fori_loop(0, steps, step, (x, solver.start(x)))[0]


@dataclass(frozen=True)
class Examples:
    """Noise that solvers are tried on.

    ends: (solver, taus (steps + 1,)) -> where it goes by them (n, ...).
    truth: where the ODE takes it (n, ...).
    """

    ends: Callable[[Solver, np.ndarray], np.ndarray]
    truth: np.ndarray

    def off(self, solver: Solver, taus: np.ndarray | None) -> np.ndarray:
        """The errors (n, values), float64; infinite where there are no such times, or a solver came to no number."""
        nowhere = np.full((len(self.truth), self.truth[0].size), np.inf)
        if taus is None:
            return nowhere
        ends = np.asarray(self.ends(solver, taus), np.float64).reshape(nowhere.shape)
        return np.where(np.isfinite(ends), ends - self.truth.reshape(nowhere.shape), np.inf)


@dataclass(frozen=True)
class Row:
    """A solver and a grid, and the error of new examples, with its 95 % interval by the bootstrap over examples."""

    solver: Solver
    grid: Grid
    steps: int
    evaluations: int
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Tuned:
    """What was found for a number of evaluations.

    best: the tuned choice; fixed: all others, the best first.
    ratio: the error of `best` over that of the best fixed one, on the same new examples: (value, low, high). That one
        is the best of many in hindsight, so that `best` may be the soundest choice and the ratio above 1.
    fallback: the fixed grid that `best` keeps to, where what was fitted did not hold; None where it did.
    """

    best: Row
    fixed: tuple[Row, ...]
    ratio: tuple[float, float, float]
    fallback: Grid | None = None


def candidates() -> tuple[Solver, ...]:
    """The settings of every solver that the tuner can compare; see above for which it cannot."""
    kinds = [kind for kind in SOLVERS if kind not in (Adaptive, DDIM)]  # DDIM that draws no noise is Euler's
    every = [solver for kind in kinds for solver in kind.examples()]
    return tuple(dict.fromkeys(solver for solver in every if not solver.stochastic))


def fixed_grids() -> tuple[Grid, ...]:
    """Every grid that is made for no run in particular."""
    return tuple(grid for kind in GRIDS for grid in kind.examples())


def steps_within(solver: Solver, process: Process, evaluations: int) -> int:
    """The most steps that ask the denoiser at most so often; 0 if one step asks more.

    Raises `UserError` for `Adaptive`.
    """
    if isinstance(solver, Adaptive):
        raise UserError(
            f"{solver} decides itself how often it asks the model: set its tolerance, or name another solver"
        )
    first, middle, last = _asked(solver, process)
    if evaluations < first + last:
        return int(evaluations >= last)
    return 2 + (evaluations - first - last) // middle


def asks(solver: Solver, process: Process, steps: int) -> int:
    """How often `solver` asks the denoiser on so many steps, from noise into data."""
    first, middle, last = _asked(solver, process)
    return last if steps == 1 else first + (steps - 2) * middle + last


@cache
def _asked(solver: Solver, process: Process) -> tuple[int, ...]:
    """How often a first step, a later one, and the one that ends in data ask the denoiser: counted."""
    counts = [0, 0, 0]
    x, taus = jnp.ones((1, 1, 1, 1, 1)), jnp.asarray([1.0, 0.7, 0.3, 0.0])[:, None, None]
    noise = Brownian(per_example(stream(0, "tune"), jnp.arange(1)), (1, 1, 1, 1), process.noise)
    with jax.disable_jit():  # a branch that is not taken does not count
        carry = solver.start(x)
        for i in range(3):

            def denoise(x: Array, tau: Array, i: int = i) -> Prediction:
                counts[i] += 1
                return Prediction(0 * x, x)

            x, carry = solver.step(denoise, process, x, taus[i], taus[i + 1], noise, carry)
    return tuple(counts)


def tune(
    fit: Examples,
    judge: Examples,
    process: Process,
    evaluations: int,
    *,
    solvers: Sequence[Solver] | None = None,
    grids: Sequence[Grid] | None = None,
    kept: int = 3,
    numbers: int = 6,
    rounds: int = 10,
    advance: Callable[[float, str], None] = lambda share, note: None,
) -> Tuned:
    """The best that at most `evaluations` do for `process`, found on the examples `fit` and judged on those of `judge`.

    Args:
        solvers, grids: what to choose from; all that can be compared if None.
        kept: of how many solvers, those that a fixed grid serves best, a grid is fitted.
        numbers: by how many numbers a grid is fitted, and no more than it has times between its ends.
        rounds: of fitting, at most; each asks for `numbers` + 1 to `numbers` + 4 descents.
        advance: told which share of the work is done, 1 in all, and the least error so far.

    Raises `UserError` where no solver has so few evaluations.
    """
    solvers, grids = candidates() if solvers is None else solvers, fixed_grids() if grids is None else grids
    able = [(solver, n) for solver in solvers if (n := steps_within(solver, process, evaluations))]
    if not able:
        raise UserError(f"no solver makes a step with {evaluations} evaluations: give more")
    choices = [(solver, n, grid) for solver, n in able for grid in grids]
    found = []
    for solver, steps, grid in choices:
        found.append(_rms(fit.off(solver, grid(process, steps))))
        advance(0.25 / len(choices), f"{min(found):.4g}")
    order = np.argsort(found, kind="stable")
    starts = {choices[i][0]: choices[i] for i in order[::-1]}  # of each solver the best grid
    best = sorted(starts.values(), key=lambda choice: found[choices.index(choice)])[:kept]
    fitted = []
    for solver, steps, grid in best:
        taus = grid(process, steps)
        theta, off = least_squares(
            lambda theta, s=solver, t=taus: fit.off(s, bent(process, t, theta)).ravel(),  # type: ignore[misc]
            np.zeros(min(numbers, steps - 1)),
            rounds,
        )
        times = Fitted(tuple(bent(process, taus, theta).tolist()))  # type: ignore[union-attr]
        fitted.append((_rms(off), solver, steps, times))
        advance(0.5 / len(best), f"{min(one[0] for one in fitted):.4g}")
    rows, squares = [], []
    for solver, steps, grid in [min(fitted, key=lambda one: one[0])[1:], *choices]:
        squares.append((judge.off(solver, grid(process, steps)) ** 2).mean(1))
        rows.append((solver, grid, steps, asks(solver, process, steps)))
        advance(0.25 / (1 + len(choices)), "")
    own, fallback = 1 + int(order[0]), None
    if squares[own].mean() < squares[0].mean():
        solver, grid, steps, count = rows[own]
        rows[0], squares[0] = (solver, Fitted(tuple(grid(process, steps).tolist())), steps, count), squares[own]
        fallback = grid
    return replace(_judged(rows, np.stack(squares)), fallback=fallback)


def _judged(rows: list[tuple[Solver, Grid, int, int]], squares: np.ndarray) -> Tuned:
    """The rows, the chosen one first, with their errors out of each example's mean square (rows, n)."""
    n = squares.shape[1]
    drawn = np.random.default_rng(0).integers(n, size=(DRAWS, n))
    spread = np.sqrt(np.stack([square[drawn].mean(1) for square in squares]))
    errors, ends = np.sqrt(squares.mean(1)), np.quantile(spread, [0.025, 0.975], axis=1).T
    judged = [
        Row(*row, float(e), float(low), float(high)) for row, e, (low, high) in zip(rows, errors, ends, strict=True)
    ]
    order = 1 + np.argsort(errors[1:], kind="stable")
    low, high = np.quantile(spread[0] / spread[order[0]], [0.025, 0.975])
    ratio = float(errors[0] / errors[order[0]]), float(low), float(high)
    return Tuned(judged[0], tuple(judged[i] for i in order), ratio)


def _rms(off: np.ndarray) -> float:
    return float(np.sqrt((off**2).mean()))


def bent(process: Process, taus: np.ndarray, theta: np.ndarray) -> np.ndarray | None:
    """`taus` (steps + 1,) with the first step in logsnr moved by theta[0] and the logarithms of the others changed by
    the cosine series theta[1:]; exactly any grid of as many steps if theta has steps - 1 numbers.

    None where that reaches beyond the process's end, or the times are too near to be told apart.
    """
    if not theta.any():
        return taus
    with jax.enable_x64(True):
        logsnr = np.asarray(process.logsnr(jnp.asarray(taus[1:-1], jnp.float64)))
        steps = np.diff(logsnr)
        places = (np.arange(len(steps)) + 0.5) / max(len(steps), 1)
        waves = np.cos(np.pi * np.arange(len(theta) - 1)[:, None] * places)
        steps = steps * np.exp(theta[1:] @ waves)
        logsnr = logsnr[0] + theta[0] + np.concatenate([[0.0], np.cumsum(steps)])
        between = np.asarray(process.tau_of_logsnr(jnp.asarray(logsnr)), np.float64)
    new = np.concatenate([[1.0], between, [0.0]])
    return new if np.isfinite(new).all() and (np.diff(new) < 0).all() else None


def least_squares(
    residuals: Callable[[np.ndarray], np.ndarray], start: np.ndarray, rounds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers near `start` with a small sum of squared `residuals` (values,), and those; never a larger one."""
    theta, now, damping = start, residuals(start), 1e-2
    for _ in range(rounds):
        if not len(theta) or not np.isfinite(now).all():
            break
        slopes = np.stack([(residuals(theta + H * axis) - now) / H for axis in np.eye(len(theta))])
        slopes = np.where(np.isfinite(slopes), slopes, 0.0)
        square, pull = slopes @ slopes.T, slopes @ now
        before = (now**2).sum()
        for _ in range(4):
            ridge = damping * np.diag(square) + 1e-12 * np.trace(square) + 1e-300
            step = -np.linalg.solve(square + np.diag(ridge), pull)
            new = residuals(theta + step)
            if (new**2).sum() < before:
                theta, now, damping = theta + step, new, damping / 5
                break
            damping *= 8
        if (now**2).sum() >= before * (1 - 1e-3):
            break
    return theta, now
