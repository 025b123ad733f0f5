import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, RectifiedFlow, ZeroTerminal
from diorama.sample.solver.ipndm import IPNDM
from diorama.sample.solver.lms import LMS
from tests.sample.solver.checks import MEAN, even_in_logsnr, levels, point, slopes, start, waits
from tests.sample.truths import gaussian, march


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_it_reaches_its_order_on_even_steps(order, x64):
    plain, exploding = RectifiedFlow(), EDM()
    (gaussian, _), _ = slopes(IPNDM(order), plain, lambda n: levels(plain, -7.0, 2.0, n, "sigma"), (400, 800, 1600))
    _, (mixture, _) = slopes(
        IPNDM(order), exploding, lambda n: levels(exploding, -7.0, 5.0, n, "sigma"), (600, 1200, 2400)
    )
    assert gaussian == pytest.approx(order, abs=0.3)
    assert mixture == pytest.approx(order, abs=0.3)


def test_on_uneven_steps_it_is_of_second_order(x64):
    process = RectifiedFlow()
    (slope, _), _ = slopes(IPNDM(4), process, even_in_logsnr(process, -20.0, 5.0), (120, 240, 480))
    assert slope == pytest.approx(2, abs=0.1)


def test_on_even_steps_it_is_adams_bashforth(x64):
    process, taus = EDM(rho=1.0), np.linspace(1, 0, 9)
    found, lms = (march(s, process, gaussian(process), taus, start(process, 1.0)) for s in (IPNDM(4), LMS(4)))
    np.testing.assert_allclose(found, lms, rtol=1e-11)


@pytest.mark.parametrize("process", [RectifiedFlow(), ZeroTerminal(), EDM()], ids=lambda p: type(p).__name__)
def test_a_point_is_found_in_any_number_of_steps(process):
    np.testing.assert_allclose(point(IPNDM(4), process), MEAN, atol=2e-5)


def test_a_frame_that_waits_comes_out_as_if_it_had_not(x64):
    together, alone = waits(IPNDM(4), RectifiedFlow(), np.linspace(1.0, 0.0, 9))
    np.testing.assert_allclose(together, alone, rtol=1e-11)


def test_another_order_is_refused():
    with pytest.raises(UserError, match="order=0: iPNDM has orders 1 to 4"):
        IPNDM(0)
