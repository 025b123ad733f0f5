import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, RectifiedFlow, ZeroTerminal
from diorama.sample import DDIM
from diorama.sample.solver.deis import DEIS
from diorama.sample.solver.lms import LMS
from tests.sample.solver.checks import MEAN, far, point, start, waits
from tests.sample.truths import gaussian, march

both_axes = pytest.mark.parametrize("axis", ["logsnr", "tau"])


@both_axes
@pytest.mark.parametrize("order", [1, 2, 3])
def test_it_reaches_its_order(order, axis, x64):
    for slope, _ in far(DEIS(order, axis)):
        assert slope == pytest.approx(order, abs=0.3)


def test_first_order_is_ddim(x64):
    process, taus = RectifiedFlow(), np.linspace(1, 0, 6)
    found, ddim = (march(s, process, gaussian(process), taus, start(process, 1.0)) for s in (DEIS(1), DDIM()))
    np.testing.assert_allclose(found, ddim, atol=1e-12)


def test_in_a_time_that_is_sigma_it_is_linear_multistep(x64):
    process, taus = EDM(rho=1.0), np.linspace(1, 0, 9) ** 3
    found, lms = (march(s, process, gaussian(process), taus, start(process, 1.0)) for s in (DEIS(3, "tau"), LMS(3)))
    np.testing.assert_allclose(found, lms, rtol=1e-10)


@both_axes
@pytest.mark.parametrize("process", [RectifiedFlow(), ZeroTerminal(), EDM()], ids=lambda p: type(p).__name__)
def test_a_point_is_found_in_any_number_of_steps(process, axis):
    np.testing.assert_allclose(point(DEIS(3, axis), process), MEAN, atol=2e-5)


@both_axes
def test_a_frame_that_waits_comes_out_as_if_it_had_not(axis, x64):
    together, alone = waits(DEIS(3, axis), RectifiedFlow(), np.linspace(1.0, 0.0, 9))
    np.testing.assert_allclose(together, alone, rtol=1e-11)


def test_another_order_is_refused():
    with pytest.raises(UserError, match="order=4: DEIS has orders 1, 2 and 3"):
        DEIS(4)
