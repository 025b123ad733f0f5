import jax.numpy as jnp
import numpy as np

from diorama.process import EDM, CosineVP
from diorama.sample.solver.midpoint import Midpoint
from tests.sample.solver.checks import MEAN, STARTS, VARIANCE
from tests.sample.truths import gaussian, march


def test_it_is_dpm2_of_k_diffusion(x64):
    """Line by line: sigma_mid is the geometric mean; d = (x - denoised) / sigma there moves x the whole way."""
    process, (tau, tau_next), x = EDM(), (0.7, 0.6), jnp.asarray(STARTS)
    sigma, sigma_next = float(process.sigma(tau)), float(process.sigma(tau_next))
    middle = np.sqrt(sigma * sigma_next)

    def d(x, sigma):
        at = jnp.full((8, 2), process.tau_of_logsnr(-2 * np.log(sigma)))
        return (x - gaussian(process, MEAN, VARIANCE)(x, at).x0) / sigma

    expected = x + d(x + d(x, sigma) * (middle - sigma), middle) * (sigma_next - sigma)
    found = march(Midpoint(), process, gaussian(process, MEAN, VARIANCE), [tau, tau_next], x)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_it_is_dpm_solver_2(x64):
    """Equations of arXiv 2206.00927, algorithm 1, for a variance-preserving process, in epsilon."""
    process, (tau, tau_next), x = CosineVP(), (0.7, 0.6), jnp.asarray(STARTS)
    middle = float(process.tau_of_logsnr((process.logsnr(tau) + process.logsnr(tau_next)) / 2))
    alpha, sigma = zip(
        *((float(process.alpha(t)), float(process.sigma(t))) for t in (tau, middle, tau_next)), strict=True
    )
    h = float(process.logsnr(tau_next) - process.logsnr(tau)) / 2

    def epsilon(x, at):
        return gaussian(process, MEAN, VARIANCE)(x, jnp.full((8, 2), at)).epsilon

    u = alpha[1] / alpha[0] * x - sigma[1] * np.expm1(h / 2) * epsilon(x, tau)
    expected = alpha[2] / alpha[0] * x - sigma[2] * np.expm1(h) * epsilon(u, middle)
    found = march(Midpoint(), process, gaussian(process, MEAN, VARIANCE), [tau, tau_next], x)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
