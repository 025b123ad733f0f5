import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, CosineVP, RectifiedFlow
from diorama.sample import Euler, Heun, grid
from diorama.sample.solver.edm import Churn
from diorama.sample.solver.midpoint import Midpoint
from tests.sample.solver.checks import MEAN, STARTS, VARIANCE, Told, law
from tests.sample.truths import gaussian, order


@pytest.mark.parametrize("inner", [Heun(), Euler()], ids=str)
def test_it_is_algorithm_2_line_by_line(inner, x64):
    """arXiv 2206.00364: from 80 down, above, within and below [S_tmin, S_tmax], and to data."""
    process, gamma, s_noise, s_min, s_max = EDM(), 0.2, 1.003, 0.05, 50.0
    sigmas = np.asarray([80.0, 30.0, 2.0, 0.04, 0.0])
    taus = np.where(sigmas > 0, process.tau_of_logsnr(-2 * np.log(np.maximum(sigmas, 1e-9))), 0.0)
    draws = np.random.default_rng(1).normal(size=(4, *STARTS.shape))

    def denoised(x, sigma):
        return gaussian(process, MEAN, VARIANCE)(x, jnp.full((8, 2), process.tau_of_logsnr(-2 * np.log(sigma)))).x0

    x = found = 80 * jnp.asarray(STARTS)
    for i in range(4):
        g = gamma if s_min <= sigmas[i] <= s_max else 0.0
        t_hat = sigmas[i] * (1 + g)  # line 5
        x_hat = x + np.sqrt(t_hat**2 - sigmas[i] ** 2) * s_noise * draws[i]  # lines 4 and 6
        d = (x_hat - denoised(x_hat, t_hat)) / t_hat  # line 7
        x = x_hat + (sigmas[i + 1] - t_hat) * d  # line 8
        if sigmas[i + 1] != 0 and inner == Heun():  # lines 9 to 11
            d_next = (x - denoised(x, sigmas[i + 1])) / sigmas[i + 1]
            x = x_hat + (sigmas[i + 1] - t_hat) * (d + d_next) / 2
        solver, now = Churn(inner, gamma, s_min, s_max, s_noise), (jnp.full((8, 2), taus[i + k]) for k in range(2))
        found, _ = solver.step(gaussian(process, MEAN, VARIANCE), process, found, *now, Told(draws[i : i + 1]), ())
        np.testing.assert_allclose(found, x, rtol=1e-8)


def test_other_processes_are_raised_as_edm_is(x64):
    """x / alpha at the same sigma / alpha: a rectified flow is churned as its variance-exploding twin.

    With a step that is the same for every process, as Heun's is not.
    """
    draws, found = np.random.default_rng(1).normal(size=(1, *STARTS.shape)), []
    for process in (EDM(), RectifiedFlow(), CosineVP()):
        tau, tau_next = (jnp.full((8, 2), process.tau_of_logsnr(-2 * np.log(s))) for s in (1.3, 0.4))
        x = process.alpha(tau[0, 0]) * jnp.asarray(STARTS)
        y, _ = Churn(Midpoint(), 0.3).step(
            gaussian(process, MEAN, VARIANCE), process, x, tau, tau_next, Told(draws), ()
        )
        found.append(y / process.alpha(tau_next[0, 0]))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-9)


@pytest.mark.parametrize("inner", [Heun(), Euler()], ids=str)
def test_it_keeps_the_law_to_the_order_of_its_step(inner, x64):
    """S_churn = 10 in all: the mean exactly, the variance with an error that falls as the ODE's."""
    steps, errors = (64, 128, 256), []
    for n in steps:
        mean, variance = law(Churn(inner, gamma=10 / n), EDM(), grid.Uniform()(EDM(), n))
        assert mean == pytest.approx(MEAN, abs=1e-9)
        errors.append(abs(variance - VARIANCE))
    assert order(steps, errors) == pytest.approx(inner.order, abs=0.3)


def test_noise_that_is_too_large_is_seen_in_the_law(x64):
    taus = grid.Uniform()(EDM(), 128)
    variances = [law(Churn(gamma=0.1, s_noise=s), EDM(), taus)[1] for s in (0.9, 1.0, 1.1)]
    assert variances[0] < 0.97 * VARIANCE
    assert variances[2] > 1.03 * VARIANCE


def test_more_churn_than_the_paper_allows_is_refused():
    with pytest.raises(UserError, match=r"gamma=0\.5: churn lies in"):
        Churn(gamma=0.5)


@pytest.mark.parametrize("wrong", [{"s_min": 2.0, "s_max": 1.0}, {"s_min": -1.0}, {"s_noise": -1.0}], ids=str)
def test_noise_that_cannot_be_is_refused(wrong):
    with pytest.raises(UserError, match="s_min is at most s_max, and none is below 0"):
        Churn(**wrong)
