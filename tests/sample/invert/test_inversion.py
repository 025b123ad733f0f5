"""Data to noise and back, on the ring of six Gaussians in the plane (algorithms 2.1.6), in double precision."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.evaluate.truth import Classes, Mixture, ring
from diorama.process import EDM, LinearVP, RectifiedFlow
from diorama.sample import DDIM, Adaptive, ClassifierFree, DPMSolver, Euler, Heun, grid, plan
from diorama.sample.invert import FixedPoint, Naive, Reversible
from tests.sample.truths import order

RING, PROCESS = ring(6, 1.0, 0.25), EDM(sigma_data=1.0)


@cache
def trip(method, steps, process=PROCESS, times=None):
    """The round trip's RMS error, and what the inversion says of itself."""
    denoise = RING.denoiser(process)
    rows = plan.joint((times or grid.Karras())(process, steps), 1)

    @jax.jit
    def run(x):
        inverted = method.invert(denoise, process, rows, x)
        return method.generate(denoise, process, rows, inverted.state), inverted

    x = RING.draw(jax.random.key(0), 64)
    again, inverted = run(x)
    return float(jnp.sqrt(((again - x) ** 2).mean())), inverted


def test_the_naive_way_misses_by_the_solvers_error(x64):
    """Reference: Euler 2.6e-1 and 5.3e-2, Heun 7.2e-2 and 4.1e-4 at 10 and 50 steps."""
    for solver, expected in ((Euler(), (2.6e-1, 5.3e-2)), (Heun(), (7.2e-2, 4.1e-4))):
        for steps, error in zip((10, 50), expected, strict=True):
            assert trip(Naive(solver), steps)[0] == pytest.approx(error, rel=0.35), (solver, steps)
    assert np.isnan(trip(Naive(Heun()), 50)[1].residual).all()
    assert order([50, 100], [trip(Naive(Euler()), n)[0] for n in (50, 100)]) == pytest.approx(1, abs=0.2)


def test_fixed_points_plain_and_mixed(x64):
    """Reference for ten plain iterations of Euler's step: 4.3e-4 and 1.8e-10; mixing reaches rounding sooner."""
    plain = FixedPoint(Euler(), iterations=10, tolerance=1e-14, memory=1)
    assert trip(plain, 10)[0] < 4.3e-4
    assert trip(plain, 50)[0] < 1e-8
    for solver in (Euler(), Heun()):
        error, inverted = trip(FixedPoint(solver, iterations=40, tolerance=1e-14), 50)
        assert error < 1e-10
        assert (inverted.residual <= 1e-13).all()
        assert (inverted.iterations <= 40).all()


@pytest.mark.parametrize("process", [PROCESS, RectifiedFlow(), LinearVP()], ids=lambda p: type(p).__name__)
def test_the_reversible_way_is_exact_at_any_number_of_steps(process, x64):
    for steps in (5, 50):
        for solver in (Euler(), Heun()):
            error, inverted = trip(Reversible(solver), steps, process, grid.Cosine())
            assert error < 1e-10, (steps, solver)
            assert (inverted.residual == 0).all()


@pytest.mark.parametrize("method", [Reversible(Heun()), Naive(Heun())], ids=lambda m: type(m).__name__)
def test_the_noise_is_that_of_the_ode(method, x64):
    """In the order of the solver: against the exact flow map."""
    x = RING.draw(jax.random.key(0), 64)
    exact = RING.flow(PROCESS, x, float(grid.Karras()(PROCESS, 20)[-2]), 1.0) / 80

    def error(steps):
        state = trip(method, steps)[1].state
        noise = state[0] * jnp.sqrt(6401.0) if isinstance(state, tuple) else state
        return float(jnp.sqrt(((noise / 80 - exact) ** 2).mean()))

    found = [error(n) for n in (50, 100)]
    assert found[1] < 5e-3
    assert found[1] < found[0] / 2.5


def test_under_strong_guidance_it_says_that_it_failed(x64):
    """Fixed points of a guided step may not attract: the residual says so. The reversible way does not care."""
    pair = Classes(ring(6, 1.0, 0.25), Mixture(((1.0, 0.0),), 0.25))
    led = ClassifierFree(12.0)(pair.denoiser(PROCESS), PROCESS, jnp.zeros(1))
    rows = plan.joint(grid.Karras()(PROCESS, 10), 1)
    x = pair.conditional.draw(jax.random.key(1), 32)

    @jax.jit
    def run(x):
        found = []
        for method in (FixedPoint(Euler(), iterations=30, tolerance=1e-10), Reversible(Euler())):

            def denoise(x, tau):
                return led(x, tau, jnp.ones(32))

            inverted = method.invert(denoise, PROCESS, rows, x)
            again = method.generate(denoise, PROCESS, rows, inverted.state)
            found.append((jnp.abs(again - x).max((1, 2, 3, 4)), inverted.residual, inverted.iterations))
        return found

    (missed, residual, iterations), (exact, _, _) = run(x)
    failed = residual > 1e-10
    assert failed.any()
    assert (iterations[failed] == 30).all()
    assert (missed[~failed] < 1e-6).all()
    assert exact.max() < 1e-8


@pytest.mark.parametrize("method", [Naive(), FixedPoint(), Reversible()], ids=lambda m: type(m).__name__)
def test_frames_of_their_own_times_and_frames_that_stay(method, x64):
    process, b = RectifiedFlow(), 8
    denoise = RING.denoiser(process)
    rows = plan.pyramid(grid.Uniform()(process, 8) * 0.8, 3, given=1, lag=2)
    x = RING.draw(jax.random.key(2), 3 * b).reshape(b, 3, 1, 1, 2)

    @jax.jit
    def run(x):
        inverted = method.invert(denoise, process, rows, x)
        return method.generate(denoise, process, rows, inverted.state), inverted

    again, inverted = run(x)
    alone, _ = run(x[3:4])
    for state in jax.tree.leaves(inverted.state):
        np.testing.assert_allclose(state[:, 0], x[:, 0], rtol=1e-12)
    np.testing.assert_allclose(again[:, 0], x[:, 0], rtol=1e-12)
    np.testing.assert_allclose(alone[0], again[3], atol=1e-10)
    assert jnp.abs(again - x).max() < (0.2 if isinstance(method, Naive) else 1e-4)


def test_a_solver_that_only_counts_is_inverted_too(x64):
    """`Adaptive` divides a step by where it begins: what steps by turns does not care."""
    error, inverted = trip(Reversible(Adaptive(1e-2)), 5)
    assert error < 1e-10
    assert (inverted.residual == 0).all()


def test_a_step_that_forgets_its_noise_is_refused():
    """From alpha = 0 straight to data: every x gives the data's mean. Where alpha stays above 0, it is inverted."""
    x, process = RING.draw(jax.random.key(0), 4), RectifiedFlow()
    with pytest.raises(UserError, match="no inverse: give the plan a step between"):
        FixedPoint(Euler()).invert(RING.denoiser(process), process, plan.joint(np.asarray([1.0, 0.0]), 1), x)
    inverted = FixedPoint(Euler()).invert(RING.denoiser(process), process, plan.joint(np.asarray([1.0, 0.5]), 1), x)
    assert np.isfinite(inverted.state).all()


def test_what_has_no_inverse():
    for method in (Naive, FixedPoint, Reversible):
        with pytest.raises(UserError, match="draws noise"):
            method(DDIM(eta=0.5))
    for method in (FixedPoint, Reversible):
        with pytest.raises(UserError, match="remembers"):
            method(DPMSolver())
    with pytest.raises(UserError, match="coupling"):
        Reversible(coupling=0.0)
    with pytest.raises(UserError, match="at least 1"):
        FixedPoint(memory=0)
