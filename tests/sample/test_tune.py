"""The tuner against exact maps: it counts as the denoiser does, bends grids soundly, and finds what is better."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.core.random import stream
from diorama.evaluate.truth import Gaussian, Mixture
from diorama.process import EDM, CosineVP, LinearVP, RectifiedFlow
from diorama.sample import DPMSolver, Euler, Heun, grid, plan, sample
from diorama.sample.solver.adaptive import Adaptive
from diorama.sample.solver.dpm_single import DPMSingle
from diorama.sample.tune import Examples, asks, bent, candidates, descend, least_squares, steps_within, tune

LAW = Mixture(((-1.0, 0.5), (1.0, -0.5)), (0.5, 0.7), (0.3, 0.7))
MOST = 16


def examples(law, process, n, seed) -> Examples:
    x = process.sigma(jnp.ones(())) * jax.random.normal(jax.random.key(seed), (n, *law.shape))
    denoise = partial(law.denoiser(process), conditions=None)

    @cache
    def program(solver):
        return jax.jit(lambda taus, steps: descend(solver, process, denoise, x, taus, steps))

    def ends(solver, taus):
        return program(solver)(jnp.asarray(np.pad(taus, (0, MOST + 1 - len(taus)))), len(taus) - 1)

    return Examples(ends, np.asarray(law.flow(process, x, 1.0, 0.0)))


@pytest.fixture(scope="module")
def problem():
    return RectifiedFlow(), *(examples(LAW, RectifiedFlow(), 64, seed) for seed in (0, 1))


def test_descends_as_sampling_does():
    process, solver, ids = CosineVP(), DPMSolver(2), jnp.arange(3, dtype=jnp.uint32)
    denoise = partial(LAW.denoiser(process), conditions=None)
    taus = grid.Cosine()(process, 5)
    matrix = plan.joint(taus, LAW.shape[0])
    wanted = jax.jit(
        lambda ids: sample(lambda x, tau, _: denoise(x, tau), process, solver, matrix, ids, LAW.shape, seed=4)
    )(ids)
    x = process.noise.draw(stream(4, "sample/start"), ids, LAW.shape)
    padded = jnp.asarray(np.pad(taus, (0, 3), constant_values=0.5))
    found = jax.jit(lambda steps: descend(solver, process, denoise, x, padded, steps))(5)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_evaluations_are_counted_and_not_believed():
    """Steps that leave alpha = 0 or end in data may cost less, and a process decides where those are."""
    assert [asks(Euler(), EDM(), n) for n in (1, 2, 9)] == [1, 2, 9]
    assert [asks(Heun(), EDM(), n) for n in (1, 2, 9)] == [1, 3, 17]
    single = DPMSingle(3)
    assert [asks(single, RectifiedFlow(), n) for n in (1, 2, 4)] == [1, 2, 8]
    assert [asks(single, EDM(), n) for n in (1, 2, 4)] == [1, 4, 10]
    assert [steps_within(single, RectifiedFlow(), n) for n in (1, 2, 4, 7, 8, 16)] == [1, 2, 2, 3, 4, 6]
    assert [steps_within(Heun(), EDM(), n) for n in (1, 2, 3, 16)] == [1, 1, 2, 8]
    for solver in (Heun(), single):
        assert asks(solver, EDM(), steps_within(solver, EDM(), 16)) <= 16


def test_candidates_draw_no_noise_and_choose_no_steps():
    names = {type(solver).__name__ for solver in candidates()}
    assert {"Euler", "Heun", "DPMSolver"} <= names
    assert "Adaptive" not in names
    assert not any(solver.stochastic for solver in candidates())
    with pytest.raises(UserError, match="decides itself"):
        steps_within(Adaptive(), RectifiedFlow(), 16)


@pytest.mark.parametrize("process", [RectifiedFlow(), EDM(), LinearVP()], ids=lambda p: type(p).__name__)
def test_bent_grids_fall_and_reach_any_grid(process):
    taus = grid.LogSNR()(process, 8)
    np.testing.assert_allclose(bent(process, taus, np.zeros(4)), taus, atol=1e-6)
    rng = np.random.default_rng(0)
    for _ in range(20):
        new = bent(process, taus, rng.normal(size=5))
        assert new is None or ((np.diff(new) < 0).all() and new[0] == 1 and new[-1] == 0)
    with jax.enable_x64(True):
        goal = grid.Cosine()(process, 8)
        here, there = (np.asarray(process.logsnr(jnp.asarray(t[1:-1]))) for t in (taus, goal))
    change = np.log(np.diff(there) / np.diff(here))
    waves = np.cos(np.pi * np.arange(6)[:, None] * (np.arange(6) + 0.5) / 6)
    theta = np.concatenate([[there[0] - here[0]], np.linalg.solve(waves.T, change)])
    np.testing.assert_allclose(bent(process, taus, theta), goal, atol=1e-7)
    assert bent(LinearVP(), grid.LogSNR()(LinearVP(), 8), np.array([-30.0])) is None  # beyond its end


def test_least_squares_finds_the_bottom_of_a_valley():
    def residuals(z):
        return np.array([10 * (z[1] - z[0] ** 2), 1 - z[0]])  # Rosenbrock (1960)

    z, left = least_squares(residuals, np.array([-1.2, 1.0]), 200)
    np.testing.assert_allclose(z, [1, 1], atol=1e-9)
    assert (left**2).sum() < 1e-18
    start, worst = np.array([0.5]), np.array([np.inf])
    np.testing.assert_array_equal(least_squares(lambda z: worst, start, 5)[0], start)  # nothing to go by


def test_tuned_is_better_than_every_fixed_choice_on_new_noise(problem):
    process, fit, judge = problem
    shares = []
    solvers, grids = [Euler(), Heun(), DPMSolver(2)], [grid.Uniform(), grid.LogSNR(), grid.Karras()]
    found = tune(
        fit, judge, process, 8, solvers=solvers, grids=grids, kept=2, advance=lambda share, note: shares.append(share)
    )
    assert sum(shares) == pytest.approx(1)
    assert len(found.fixed) == 9
    errors = [row.error for row in found.fixed]
    assert errors == sorted(errors)
    assert found.best.error < 0.8 * errors[0]
    assert found.fallback is None
    assert found.ratio[0] == pytest.approx(found.best.error / errors[0])
    assert found.ratio[1] <= found.ratio[0] <= found.ratio[2]
    assert found.best.low <= found.best.error <= found.best.high
    assert found.best.evaluations <= 8
    taus = found.best.grid(process, found.best.steps)
    assert found.best.error == pytest.approx(np.sqrt((judge.off(found.best.solver, taus) ** 2).mean()))
    again = tune(fit, judge, process, 8, solvers=solvers, grids=grids, kept=2)
    assert again == found


def test_what_cannot_be_bettered_stays():
    """A Gaussian in one step: there is no time between the ends, so the choice is a fixed one."""
    process = RectifiedFlow()
    fit = examples(Gaussian(0.0, 1.0, (1, 1, 1, 2)), process, 8, 0)
    found = tune(fit, fit, process, 1, solvers=[Euler()], grids=[grid.Uniform()])
    assert found.best.grid == grid.Fitted((1.0, 0.0))
    assert found.ratio == (1.0, 1.0, 1.0)
    with pytest.raises(UserError, match="0 evaluations"):
        tune(fit, fit, process, 0)


def test_what_does_not_hold_for_new_examples_is_not_taken(problem):
    """The former ask for steps that crowd near noise, which the latter bear ill: the better fixed choice stands."""
    process, _, judge = problem
    crowd = 1 - np.linspace(0, 1, 9) ** 4
    fit = Examples(lambda solver, taus: np.tile(taus, (4, 1)), np.tile(crowd, (4, 1)))
    grids = [grid.Uniform(), grid.Cosine()]
    found = tune(fit, judge, process, 8, solvers=[DPMSolver(2)], grids=grids)
    assert found.fallback in grids
    assert found.best.grid == grid.Fitted(tuple(found.fallback(process, 8).tolist()))
    assert found.ratio[0] >= 1


def test_a_choice_that_fails_is_infinitely_bad(problem):
    process, fit, _ = problem
    broken = Examples(lambda solver, taus: np.full(fit.truth.shape, np.nan), fit.truth)
    assert np.isinf(broken.off(Euler(), grid.Uniform()(process, 2))).all()
    assert np.isinf(fit.off(Euler(), None)).all()
