from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, LinearVP, RectifiedFlow
from diorama.process.gaussian import divide
from diorama.sample import DDIM, grid
from diorama.sample.solver.dpm import DPMSolver
from tests.process.test_gaussian import FEW, PROCESSES
from tests.sample.solver.checks import MEAN, VARIANCE, drawn, far, point, start, waits
from tests.sample.truths import gaussian, gaussian_map, march


@pytest.mark.parametrize("order", [1, 2, 3])
def test_it_reaches_its_order(order, x64):
    """From so much noise that x0 does not move in the first steps, which are of lower order."""
    for slope, _ in far(DPMSolver(order)):
        assert slope == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("process", FEW, ids=lambda p: type(p).__name__)
def test_first_order_is_ddim(process, x64):
    x, denoise, taus = start(process, 1.0), gaussian(process, MEAN, VARIANCE), grid.Karras()(process, 7)
    found, ddim = (march(solver, process, denoise, taus, x) for solver in (DPMSolver(1), DDIM()))
    np.testing.assert_allclose(found, ddim, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_a_point_is_found_in_any_number_of_steps(process):
    """x0 does not change along the path, however far the steps."""
    np.testing.assert_allclose(point(DPMSolver(3), process), MEAN, atol=1e-6)


def test_with_fresh_noise_too():
    np.testing.assert_allclose(point(DPMSolver(3, eta=1.0), RectifiedFlow()), MEAN, atol=1e-6)


@pytest.mark.parametrize("solver", [DPMSolver(2), DPMSolver(3)], ids=str)
def test_ten_steps_beat_ten_of_euler(solver, x64):
    process, taus = EDM(), grid.LogSNR()(EDM(), 10)
    x = start(process, 1.0)
    exact = gaussian_map(process, x, 1.0, 0.0, MEAN, VARIANCE)
    error, euler = (
        float(jnp.abs(march(s, process, gaussian(process, MEAN, VARIANCE), taus, x) - exact).max())
        for s in (solver, DPMSolver(1))
    )
    assert error < euler / 2


@pytest.mark.parametrize(
    ("process", "solver"), [(RectifiedFlow(), DPMSolver(2, eta=1.0)), (LinearVP(), DPMSolver(3, eta=0.5))], ids=str
)
def test_with_fresh_noise_it_keeps_the_law(process, solver, x64):
    mean, variance = drawn(solver, process, grid.Karras()(process, 60))
    assert mean == pytest.approx(MEAN, abs=0.025)  # three standard errors
    assert variance == pytest.approx(VARIANCE, rel=0.067)


def test_first_order_with_fresh_noise_has_the_variance_of_its_recursion(x64):
    """On Gaussian data a step is affine: V' = m^2 V + n^2. Of first order, 60 steps fall short of the data's 0.25."""
    process, taus = RectifiedFlow(), grid.Karras()(RectifiedFlow(), 60)
    variance = 1.0
    for tau, tau_next in pairwise(taus):
        a, b = process.at(jnp.asarray(tau), 0), process.at(jnp.asarray(tau_next), 0)
        shrink = divide(a.alpha * b.sigma, b.alpha * a.sigma)
        total = a.alpha**2 * VARIANCE + a.sigma**2
        gain = b.alpha * a.alpha * VARIANCE / total + b.sigma * shrink * a.sigma / total
        variance = float(gain**2 * variance + b.sigma**2 * (1 - shrink**2))
    assert variance < 0.22
    assert drawn(DPMSolver(1, eta=1.0), process, taus)[1] == pytest.approx(variance, rel=0.067)


@pytest.mark.parametrize("order", [2, 3])
def test_a_frame_that_waits_comes_out_as_if_it_had_not(order, x64):
    together, alone = waits(DPMSolver(order), RectifiedFlow(), np.linspace(1.0, 0.0, 9))
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_noise_that_waits_or_rises_is_no_nan():
    process = RectifiedFlow()
    x, taus = start(process, 1.0).astype(jnp.float32), [1.0, 0.6, 0.6, 0.5, 0.7, 0.3, 0.2, 0.0]
    found = march(DPMSolver(3, eta=1.0), process, gaussian(process, MEAN, VARIANCE), taus, x)
    assert np.isfinite(found).all()


def test_another_order_is_refused():
    with pytest.raises(UserError, match="order=4: DPM-Solver"):
        DPMSolver(4)


@pytest.mark.parametrize("eta", [-0.1, np.nan, np.inf])
def test_noise_that_cannot_be_is_refused(eta):
    with pytest.raises(UserError, match="fresh noise is at least 0, and finite"):
        DPMSolver(eta=eta)
