import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, LinearVP, RectifiedFlow, ZeroTerminal
from diorama.sample import DDIM, DPMSolver, grid
from diorama.sample.solver.sa import SASolver
from diorama.sample.solver.unipc import UniPC
from tests.sample.solver.checks import MEAN, VARIANCE, along, drawn, far, point, start, waits
from tests.sample.truths import gaussian, march


@pytest.mark.parametrize("orders", [(1, 2), (2, 0), (2, 2), (3, 4)], ids=str)
def test_its_ode_is_of_its_order(orders, x64):
    solver = SASolver(*orders, eta=0.0)
    for slope, _ in far(solver):
        assert slope == pytest.approx(solver.order, abs=0.3)


def test_without_noise_it_is_unipc_and_ddim(x64):
    """With no freedom in the weights: UniPC-3, but for its second step, and first order alone."""
    process, taus = RectifiedFlow(), np.linspace(1, 0, 6)
    x, denoise = start(process, 1.0), gaussian(process)
    first, ddim = (march(s, process, denoise, taus, x) for s in (SASolver(1, 0, eta=0.0), DDIM()))
    np.testing.assert_allclose(first, ddim, atol=1e-12)
    found, unipc = (march(s, process, denoise, taus, x) for s in (SASolver(3, 4, eta=0.0), UniPC(3, "bh1")))
    np.testing.assert_allclose(found, unipc, atol=1e-12)


def test_without_corrector_and_curvature_it_is_dpm_solvers_sde(x64):
    process, taus = RectifiedFlow(), np.linspace(1, 0, 9)
    x, denoise = start(process, 1.0), gaussian(process, MEAN, VARIANCE)
    pair = SASolver(1, 0, eta=1.0, interval=(0.0, 1.0)), DPMSolver(1, eta=1.0)
    found, dpm = (along(s, process, denoise, taus, x) for s in pair)
    np.testing.assert_allclose(found, dpm, rtol=1e-12)


def test_noise_vanishes_in_the_limit_and_outside_the_interval(x64):
    process, taus = RectifiedFlow(), np.linspace(1, 0, 9)
    x, denoise = start(process, 1.0), gaussian(process, MEAN, VARIANCE)
    still, faint, outside = (
        along(s, process, denoise, taus, x)
        for s in (SASolver(eta=0.0), SASolver(eta=1e-10), SASolver(eta=1.0, interval=(0.9, 0.95)))
    )
    assert 0 < np.abs(still - faint).max() < 1e-4
    np.testing.assert_allclose(outside, still, rtol=1e-12)


@pytest.mark.parametrize(
    ("process", "solver"),
    [(RectifiedFlow(), SASolver(interval=(0.0, 1.0))), (LinearVP(), SASolver(3, 4, eta=0.5))],
    ids=str,
)
def test_with_fresh_noise_it_keeps_the_law(process, solver, x64):
    mean, variance = drawn(solver, process, grid.Karras()(process, 60))
    assert mean == pytest.approx(MEAN, abs=0.025)  # three standard errors
    assert variance == pytest.approx(VARIANCE, rel=0.067)


@pytest.mark.parametrize("process", [RectifiedFlow(), ZeroTerminal(), EDM()], ids=lambda p: type(p).__name__)
def test_a_point_is_found_in_any_number_of_steps(process):
    np.testing.assert_allclose(point(SASolver(3, 4), process), MEAN, atol=2e-6)


def test_a_frame_that_waits_comes_out_as_if_it_had_not(x64):
    together, alone = waits(SASolver(3, 4, eta=0.0), RectifiedFlow(), np.linspace(1.0, 0.0, 9))
    np.testing.assert_allclose(together, alone, rtol=1e-11)


@pytest.mark.parametrize("orders", [(4, 2), (2, 1), (2, 5)])
def test_another_order_is_refused(orders):
    with pytest.raises(UserError, match="SA-Solver has predictors of order 1 to 3"):
        SASolver(*orders)


@pytest.mark.parametrize("wrong", [{"eta": -0.1}, {"interval": (0.5, 0.5)}, {"interval": (0.2, 1.5)}], ids=str)
def test_noise_that_cannot_be_is_refused(wrong):
    with pytest.raises(UserError, match="fresh noise is at least 0 and finite, from a low to a high"):
        SASolver(**wrong)
