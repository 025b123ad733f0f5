import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import CosineVP
from diorama.sample.solver.dpm_single import DPMSingle
from tests.sample.solver.checks import MEAN, STARTS, VARIANCE
from tests.sample.truths import gaussian, march


@pytest.mark.parametrize("order", [2, 3])
def test_it_is_the_paper_s(order, x64):
    """arXiv 2211.01095, algorithm 1 (2S), and its third order with r1 = 1/3, r2 = 2/3, as the authors' code has it."""
    process, ends, x = CosineVP(), (0.7, 0.6), jnp.asarray(STARTS)
    start, end = (float(process.logsnr(t)) / 2 for t in ends)
    h = end - start

    def at(share):
        tau = ends[0] if share == 0 else float(process.tau_of_logsnr(2 * (start + share * h)))
        return float(process.alpha(tau)), float(process.sigma(tau)), jnp.full((8, 2), tau)

    def data(x, share):
        return gaussian(process, MEAN, VARIANCE)(x, at(share)[2]).x0

    def first(share):
        alpha, sigma, _ = at(share)
        return sigma / at(0)[1] * x - alpha * np.expm1(-share * h) * data(x, 0)

    if order == 2:
        expected = first(1) - at(1)[0] * np.expm1(-h) * (data(first(1 / 2), 1 / 2) - data(x, 0))
    else:
        phi = lambda r: np.expm1(-r * h) / (r * h) + 1  # noqa: E731
        u = first(2 / 3) + 2 * at(2 / 3)[0] * phi(2 / 3) * (data(first(1 / 3), 1 / 3) - data(x, 0))
        expected = first(1) + 3 / 2 * at(1)[0] * phi(1) * (data(u, 2 / 3) - data(x, 0))
    found = march(DPMSingle(order), process, gaussian(process, MEAN, VARIANCE), list(ends), x)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_another_order_is_refused():
    with pytest.raises(UserError, match="order=1: DPM-Solver"):
        DPMSingle(1)
