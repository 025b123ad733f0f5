from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.process import (
    EDM,
    CosineVP,
    LinearVP,
    Process,
    RectifiedFlow,
    Shifted,
    Trigonometric,
    ZeroTerminal,
    expand,
)

FEW = [RectifiedFlow(), CosineVP(), LinearVP(), EDM()]
PROCESSES = [*FEW, CosineVP(shift=0.5), ZeroTerminal(), Trigonometric(), Shifted(RectifiedFlow(), 3.0)]
TAUS = np.linspace(0.02, 0.98, 25)


@dataclass(frozen=True)
class Parabolic(Process):
    """A user's own process: two functions and nothing else."""

    def alpha(self, tau):
        return 1 - tau**2

    def sigma(self, tau):
        return tau * (2 - tau)


every = pytest.mark.parametrize("process", [*PROCESSES, Parabolic()], ids=lambda p: type(p).__name__)


@every
def test_ends_are_data_and_noise(process):
    zero, one = jnp.zeros(()), jnp.ones(())
    assert process.alpha(zero) == 1
    assert process.sigma(zero) == 0
    assert np.isposinf(process.logsnr(zero))
    assert process.sigma(one) > 100 * process.alpha(one) or isinstance(process, EDM)
    x0 = jnp.full((1, 1, 2, 2, 1), 0.3)
    assert (process.add_noise(x0, jnp.ones_like(x0), 0.0) == x0).all()


@pytest.mark.parametrize(
    "process", [RectifiedFlow(), CosineVP(), CosineVP(shift=3.0), ZeroTerminal(), Trigonometric()], ids=str
)
def test_noise_is_free_of_data_exactly_at_one(process):
    assert process.alpha(jnp.ones(())) == 0
    assert np.isneginf(process.logsnr(jnp.ones(())))


@every
def test_rates_are_the_derivatives(process, x64):
    tau, h = jnp.asarray(TAUS), 1e-6
    alpha_dot, sigma_dot = process.rates(tau)
    np.testing.assert_allclose(alpha_dot, (process.alpha(tau + h) - process.alpha(tau - h)) / (2 * h), atol=1e-7)
    np.testing.assert_allclose(sigma_dot, (process.sigma(tau + h) - process.sigma(tau - h)) / (2 * h), rtol=1e-6)
    assert np.isfinite(process.rates(jnp.asarray([0.0, 1.0]))).all()


@every
def test_logsnr_falls_and_is_inverted(process, x64):
    logsnr = process.logsnr(jnp.asarray(TAUS))
    assert (np.diff(logsnr) < 0).all()
    np.testing.assert_allclose(process.tau_of_logsnr(logsnr), TAUS, atol=1e-9)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_closed_inverse_is_the_bisection(process, x64):
    logsnr = process.logsnr(jnp.asarray(TAUS))
    np.testing.assert_allclose(process.tau_of_logsnr(logsnr), Process.tau_of_logsnr(process, logsnr), atol=1e-9)
    np.testing.assert_allclose(process.tau_of_logsnr(process.logsnr(jnp.asarray([0.0, 1.0]))), [0, 1], atol=1e-9)


def test_variance_preserving(x64):
    for process in (LinearVP(), ZeroTerminal(), CosineVP(), CosineVP(shift=0.5)):
        np.testing.assert_allclose(process.alpha(TAUS) ** 2 + process.sigma(TAUS) ** 2, 1, atol=1e-12)


def test_known_values(x64):
    # DDPM's betas 1e-4 ... 0.02 over 1000 steps leave a signal of 4.036e-5 in variance; e^-10.05 in the limit.
    np.testing.assert_allclose(LinearVP().alpha(1.0) ** 2, np.exp(-10.05), rtol=1e-12)
    np.testing.assert_allclose(CosineVP().logsnr(0.3), -2 * np.log(np.tan(np.pi * 0.3 / 2)), rtol=1e-12)
    np.testing.assert_allclose(EDM().sigma((0.002 / 80) ** (1 / 7)), 0.002, rtol=1e-12)
    np.testing.assert_allclose(CosineVP(shift=2.0).logsnr(0.3), CosineVP().logsnr(0.3) - 2 * np.log(2), rtol=1e-12)
    np.testing.assert_allclose(Trigonometric(sigma_data=0.5).at(TAUS, 1).scale, 0.5, rtol=1e-12)
    level = EDM().at(jnp.full((), (0.5 / 80) ** (1 / 7)), 0)
    np.testing.assert_allclose(1 / level.scale, 1 / np.sqrt(0.5**2 + 0.5**2), rtol=1e-12)  # EDM's c_in


@every
def test_renoising_reaches_the_marginal(process, x64):
    """Equation (3): mean alpha_hat x0, variance sigma_hat^2, whatever the level it starts from."""
    for tau, tau_hat in ((0.1, 0.4), (0.0, 0.7), (0.3, 1.0)):
        x0, one = jnp.full((1, 1, 1, 1, 1), 2.0), jnp.ones((1, 1, 1, 1, 1))
        mean = process.renoise(process.add_noise(x0, 0 * x0, tau), tau, tau_hat, 0 * one)
        old = process.renoise(process.add_noise(0 * x0, one, tau), tau, tau_hat, 0 * one)
        new = process.renoise(0 * x0, tau, tau_hat, one)
        np.testing.assert_allclose(mean.item(), 2.0 * process.alpha(tau_hat), atol=1e-12)
        np.testing.assert_allclose((old**2 + new**2).item(), process.sigma(tau_hat) ** 2, rtol=1e-9)


@every
def test_renoising_to_the_same_level_is_nothing(process):
    x, noise = jax.random.normal(jax.random.key(0), (2, 3, 2, 2, 2, 1))
    tau = jnp.asarray([[0.0, 0.5], [1.0, 0.3], [0.9, 1e-3]])
    np.testing.assert_array_equal(process.renoise(x, tau, tau, noise), x)


def test_noise_time_is_per_clip_or_per_frame_or_per_position():
    process = RectifiedFlow()
    x0, epsilon = jax.random.normal(jax.random.key(0), (2, 2, 3, 4, 4, 1))
    tau = jnp.asarray([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    noisy = process.add_noise(x0, epsilon, tau)
    np.testing.assert_allclose(noisy[1, 2], 0.4 * x0[1, 2] + 0.6 * epsilon[1, 2], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        process.add_noise(x0, epsilon, tau[:, 0])[1, 2], process.add_noise(x0, epsilon, 0.4)[1, 2]
    )
    everywhere = jnp.broadcast_to(expand(tau, 5), (2, 3, 4, 4, 1))
    np.testing.assert_array_equal(process.add_noise(x0, epsilon, everywhere), noisy)


def test_bfloat16_media_are_noised_in_single_precision():
    assert RectifiedFlow().add_noise(jnp.ones((1, 1, 1, 1, 1), jnp.bfloat16), 0.0, jnp.ones((1,))).dtype == jnp.float32


def test_zero_terminal_is_the_published_rescaling(x64):
    """arXiv 2305.08891, algorithm 1: sqrt(alpha_bar) moved by its last value and stretched to keep its first."""
    inner, tau = LinearVP(), jnp.asarray(TAUS)
    first, last = inner.alpha(0.0), inner.alpha(1.0)
    wanted = (inner.alpha(tau) - last) * first / (first - last)
    np.testing.assert_allclose(ZeroTerminal(inner).alpha(tau), wanted, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 3, 8])
def test_zero_terminal_is_zero_however_exp_rounds(n):
    process, ones = ZeroTerminal(LinearVP(0.2, 15.0)), jnp.ones(n)
    for alpha in (process.alpha, jax.jit(process.alpha)):
        np.testing.assert_array_equal(alpha(ones), 0)
    assert np.isneginf(process.logsnr(ones)).all()
