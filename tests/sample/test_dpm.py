import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, CosineVP, LinearVP, RectifiedFlow
from diorama.sample import DDIM, DPMSolver, grid
from tests.process.test_gaussian import FEW, PROCESSES
from tests.sample.test_solver import MEAN, VARIANCE, start
from tests.sample.truths import gaussian, gaussian_map, march, order

every_process = pytest.mark.parametrize("process", FEW, ids=lambda p: type(p).__name__)


@pytest.mark.parametrize("process", [RectifiedFlow(), CosineVP(), EDM(sigma_max=1e5)], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("solver", [DPMSolver(1), DPMSolver(2), DPMSolver(3)], ids=str)
def test_it_reaches_its_order(process, solver, x64):
    """With steps even in logsnr, from so much noise that x0 does not move in the first ones, which are of lower order.

    From a logsnr of -6 on, where x0 moves, the first step's error is of second order, whatever the later ones'.
    """
    ends = -18.0, 6.0
    high, low = (float(process.tau_of_logsnr(jnp.asarray(s))) for s in ends)
    x = start(process)
    exact = gaussian_map(process, x, high, low, MEAN, VARIANCE)
    steps, errors = (480, 960, 1920), []
    for n in steps:
        taus = np.asarray(process.tau_of_logsnr(jnp.linspace(*ends, n + 1)))
        found = march(solver, process, gaussian(process, MEAN, VARIANCE), taus, x)
        errors.append(float(jnp.sqrt(jnp.mean((found - exact) ** 2))))
    assert order(steps, errors) == pytest.approx(solver.order, abs=0.3), errors


@every_process
def test_first_order_is_ddim(process, x64):
    x, denoise, taus = start(process), gaussian(process, MEAN, VARIANCE), grid.Karras()(process, 7)
    found, ddim = (march(solver, process, denoise, taus, x) for solver in (DPMSolver(1), DDIM()))
    np.testing.assert_allclose(found, ddim, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("solver", [DPMSolver(2), DPMSolver(3), DPMSolver(3, eta=1.0)], ids=str)
def test_a_point_is_found_in_any_number_of_steps(process, solver):
    """Data that are one point: x0 does not change along the path. From pure noise, in single precision."""
    for steps in (1, 2, 5):
        taus = grid.Uniform()(process, steps)
        found = march(solver, process, gaussian(process, MEAN, 0.0), taus, start(process).astype(jnp.float32))
        np.testing.assert_allclose(found, MEAN, atol=1e-6)


@pytest.mark.parametrize("solver", [DPMSolver(2), DPMSolver(3)], ids=str)
def test_ten_steps_beat_ten_of_euler(solver, x64):
    process, taus = EDM(), grid.LogSNR()(EDM(), 10)
    x = start(process)
    exact = gaussian_map(process, x, 1.0, 0.0, MEAN, VARIANCE)
    error, euler = (
        float(jnp.abs(march(s, process, gaussian(process, MEAN, VARIANCE), taus, x) - exact).max())
        for s in (solver, DPMSolver(1))
    )
    assert error < euler / 2


@pytest.mark.parametrize("process", [RectifiedFlow(), LinearVP()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("solver", [DPMSolver(1, eta=1.0), DPMSolver(2, eta=1.0), DPMSolver(3, eta=0.5)], ids=str)
def test_with_fresh_noise_it_keeps_the_law(process, solver, x64):
    x = start(process, b=8000, seed=5)
    found = march(solver, process, gaussian(process, MEAN, VARIANCE), grid.Karras()(process, 200), x)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.025)
    assert float(found.var()) == pytest.approx(VARIANCE, rel=0.06)


@pytest.mark.parametrize("solver", [DPMSolver(2), DPMSolver(3)], ids=str)
def test_a_frame_that_waits_comes_out_as_if_it_had_not(solver, x64):
    """Frame 0 goes down the grid, frame 1 waits before it starts and frame 2 half-way: each has its own history."""
    process, taus = RectifiedFlow(), np.linspace(1.0, 0.0, 9)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 1, 1, 1, 1)))
    ways = [*taus, 0, 0, 0], [1, 1, 1, *taus], [*taus[:4], *[taus[3]] * 3, *taus[4:]]
    rows = np.broadcast_to(np.stack(ways, axis=1)[:, None], (12, 4, 3))
    denoise = gaussian(process, MEAN, VARIANCE)
    together = march(solver, process, denoise, rows, jnp.tile(x, (1, 3, 1, 1, 1)))
    alone = march(solver, process, denoise, taus, x)
    for frame in range(3):
        np.testing.assert_allclose(together[:, frame], alone[:, 0], rtol=1e-12)


@pytest.mark.parametrize("solver", [DPMSolver(2, eta=0.5), DPMSolver(3, eta=1.0)], ids=str)
def test_noise_that_waits_or_rises_is_no_nan(solver):
    process, x = RectifiedFlow(), start(RectifiedFlow()).astype(jnp.float32)
    found = march(solver, process, gaussian(process, MEAN, VARIANCE), [1.0, 0.6, 0.6, 0.5, 0.7, 0.3, 0.2, 0.0], x)
    assert np.isfinite(found).all()


def test_another_order_is_refused():
    with pytest.raises(UserError, match="order=4: DPM-Solver"):
        DPMSolver(4)
