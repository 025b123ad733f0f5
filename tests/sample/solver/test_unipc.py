import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, RectifiedFlow, ZeroTerminal
from diorama.sample.solver.dpm import DPMSolver
from diorama.sample.solver.unipc import UniPC
from tests.sample.solver.checks import MEAN, even_in_logsnr, far, point, slopes, start, waits
from tests.sample.truths import gaussian, march


@pytest.mark.parametrize("solver", [UniPC(1), UniPC(1, "bh1"), UniPC(2), UniPC(2, "bh1"), UniPC(3)], ids=str)
def test_it_reaches_one_order_more_than_its_predictor(solver, x64):
    assert solver.order == solver.p + 1
    for slope, _ in far(solver):
        assert slope == pytest.approx(solver.order, abs=0.3)


def test_it_goes_upwards_as_well(x64):
    """From data to noise: its corrector makes up for first steps of lower order even where x0 moves."""
    process = RectifiedFlow()
    for slope, _ in slopes(UniPC(2), process, even_in_logsnr(process, 6.0, -8.0), (50, 100, 200)):
        assert slope == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_one_step_is_dpm_solver(p, x64):
    """Nothing has been evaluated at its end yet: only the second step corrects the first."""
    process = RectifiedFlow()
    x = start(process, 0.9)
    found, dpm = (march(s, process, gaussian(process), [0.9, 0.5], x) for s in (UniPC(p), DPMSolver(p)))
    np.testing.assert_allclose(found, dpm, rtol=1e-12)


@pytest.mark.parametrize("process", [RectifiedFlow(), ZeroTerminal(), EDM()], ids=lambda p: type(p).__name__)
def test_a_point_is_found_in_any_number_of_steps(process):
    np.testing.assert_allclose(point(UniPC(3), process), MEAN, atol=2e-6)


@pytest.mark.parametrize("p", [1, 3])
def test_a_frame_that_waits_comes_out_as_if_it_had_not(p, x64):
    together, alone = waits(UniPC(p), RectifiedFlow(), np.linspace(1.0, 0.0, 9))
    np.testing.assert_allclose(together, alone, rtol=1e-11)


def test_another_order_is_refused():
    with pytest.raises(UserError, match="p=4: UniPC has orders"):
        UniPC(4)
