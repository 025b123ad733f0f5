import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, RectifiedFlow
from diorama.sample import DDIM, Euler, Heun, grid
from diorama.sample.solver.ancestral import Ancestral
from diorama.sample.solver.dpm_single import DPMSingle
from diorama.sample.solver.midpoint import Midpoint
from tests.sample.solver.checks import MEAN, STARTS, THREE, VARIANCE, Told, law
from tests.sample.truths import gaussian, march, order


@pytest.mark.parametrize("inner", [Euler(), Midpoint(), DPMSingle(2)], ids=str)
def test_it_is_k_diffusion_s_step(inner, x64):
    """sigma_up and sigma_down of `get_ancestral_step`; the step goes to sigma_down, and noise comes back up."""
    process, sigma, sigma_next, eta = EDM(), 2.0, 0.7, 0.8
    up = eta * np.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2)
    down = np.sqrt(sigma_next**2 - up**2)
    tau, tau_next, tau_down = (float(process.tau_of_logsnr(-2 * np.log(s))) for s in (sigma, sigma_next, down))
    x, draws = jnp.asarray(STARTS), np.random.default_rng(1).normal(size=(1, *STARTS.shape))
    denoise = gaussian(process, MEAN, VARIANCE)
    expected = march(inner, process, denoise, [tau, tau_down], x) + up * draws[0]
    ends = (jnp.full((8, 2), t) for t in (tau, tau_next))
    found, _ = Ancestral(inner, eta).step(denoise, process, x, *ends, Told(draws), ())
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("process", THREE, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_with_euler_s_step_it_is_ddim(process, eta, x64):
    """For any process: rectified flow is scaled back up as its alpha falls. From pure noise, inside, and to data."""
    draws, denoise = np.random.default_rng(1).normal(size=(1, *STARTS.shape)), gaussian(process, MEAN, VARIANCE)
    for way in ((1.0, 0.7), (0.7, 0.4), (0.4, 0.0)):
        ends, x = [jnp.full((8, 2), t) for t in way], jnp.asarray(STARTS) * process.sigma(way[0])
        a, b = (s.step(denoise, process, x, *ends, Told(draws), ())[0] for s in (Ancestral(eta=eta), DDIM(eta=eta)))
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("process", [RectifiedFlow(), EDM()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("inner", [Heun(), Midpoint()], ids=str)
def test_it_keeps_the_law_to_the_order_of_its_step(process, inner, x64):
    steps, errors = (128, 256, 512), []
    for n in steps:
        mean, variance = law(Ancestral(inner), process, grid.Uniform()(process, n))
        assert mean == pytest.approx(MEAN, abs=1e-9)
        errors.append(abs(variance - VARIANCE))
    assert order(steps, errors) == pytest.approx(2, abs=0.3)


def test_more_than_all_noise_is_refused():
    with pytest.raises(UserError, match=r"eta=1\.5: the share"):
        Ancestral(eta=1.5)
