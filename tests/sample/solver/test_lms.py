import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, RectifiedFlow, ZeroTerminal
from diorama.sample import DDIM
from diorama.sample.solver.lms import LMS
from tests.sample.solver.checks import MEAN, far, point, start, waits
from tests.sample.truths import gaussian, march


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_it_reaches_its_order(order, x64):
    for slope, _ in far(LMS(order)):
        assert slope == pytest.approx(order, abs=0.3)


def test_first_order_is_ddim(x64):
    process, taus = RectifiedFlow(), np.linspace(1, 0, 6)
    found, ddim = (march(s, process, gaussian(process), taus, start(process, 1.0)) for s in (LMS(1), DDIM()))
    np.testing.assert_allclose(found, ddim, atol=1e-12)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_epsilon_that_is_a_polynomial_is_integrated_exactly(order, x64):
    """d(x / alpha) = epsilon ds with epsilon = s^(order - 1), from where all evaluations are known; into data too."""
    process = EDM(rho=1.0, sigma_max=1.0)

    def denoise(x, tau):
        epsilon = process.at(tau, x.ndim).sigma ** (order - 1) + 0 * x
        return type(gaussian(process)(x, tau))(x - process.at(tau, x.ndim).sigma * epsilon, epsilon)

    taus, x = np.asarray([1.0, 0.9, 0.7, 0.4, 0.15, 0.0]), np.zeros((1, 1, 1, 1, 1))
    first, whole = march(LMS(order), process, denoise, taus[:order], x), march(LMS(order), process, denoise, taus, x)
    np.testing.assert_allclose(whole - first, -(taus[order - 1] ** order) / order, atol=1e-12)


@pytest.mark.parametrize("process", [RectifiedFlow(), ZeroTerminal(), EDM()], ids=lambda p: type(p).__name__)
def test_a_point_is_found_in_any_number_of_steps(process):
    np.testing.assert_allclose(point(LMS(4), process), MEAN, atol=2e-5)


def test_a_frame_that_waits_comes_out_as_if_it_had_not(x64):
    together, alone = waits(LMS(4), RectifiedFlow(), np.linspace(1.0, 0.0, 9))
    np.testing.assert_allclose(together, alone, rtol=1e-11)


def test_another_order_is_refused():
    with pytest.raises(UserError, match="order=5: LMS has orders 1 to 4"):
        LMS(5)
