import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, CosineVP, Prediction, RectifiedFlow
from diorama.sample import DPMSolver, grid
from diorama.sample.solver.exponential import SEEDS
from tests.sample.solver.checks import MEAN, STARTS, VARIANCE, Told, law
from tests.sample.truths import gaussian, order


def test_it_is_dpmpp_sde_of_k_diffusion_with_exact_noise(x64):
    """Line by line, r = 1/2 and eta = 1; only the whole step's noise is that of its halves, not one of its own."""
    process, (sigma, sigma_next), x = EDM(), (2.0, 0.7), jnp.asarray(STARTS)
    middle = np.sqrt(sigma * sigma_next)
    taus = [float(process.tau_of_logsnr(-2 * np.log(s))) for s in (sigma, middle, sigma_next)]
    z1, z2 = np.random.default_rng(1).normal(size=(2, *STARTS.shape))

    def ancestral(to):
        up = np.sqrt(to**2 * (sigma**2 - to**2) / sigma**2)
        return np.sqrt(to**2 - up**2), up

    def denoised(x, tau):
        return gaussian(process, MEAN, VARIANCE)(x, jnp.full((8, 2), tau)).x0

    here = denoised(x, taus[0])
    down, up = ancestral(middle)
    x_2 = down / sigma * x - np.expm1(np.log(down / sigma)) * here + up * z1
    down, up = ancestral(sigma_next)
    e = np.sqrt(sigma_next / sigma)  # e^(-h/2)
    z = (e * np.sqrt(1 - e**2) * z1 + np.sqrt(1 - e**2) * z2) / np.sqrt(1 - e**4)
    expected = down / sigma * x - np.expm1(np.log(down / sigma)) * denoised(x_2, taus[1]) + up * z
    noise, ends = Told((z1, z2)), (jnp.full((8, 2), t) for t in (taus[0], taus[2]))
    found, _ = SEEDS().step(gaussian(process, MEAN, VARIANCE), process, x, *ends, noise, ())
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    parts = [(float(a[0, 0]), float(b[0, 0])) for a, b in noise.asked]
    np.testing.assert_allclose(parts, [taus[:2], taus[1:]], rtol=1e-9)


@pytest.mark.parametrize("process", [RectifiedFlow(), CosineVP(), EDM()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_its_law_is_of_second_order(process, eta, x64):
    """The mean exactly, the variance with an error that falls as the square, and is smaller than of first order."""
    steps, errors = (128, 256, 512), []
    for n in steps:
        mean, variance = law(SEEDS(eta), process, grid.Uniform()(process, n))
        assert mean == pytest.approx(MEAN, abs=1e-9)
        errors.append(abs(variance - VARIANCE))
    assert order(steps, errors) == pytest.approx(2, abs=0.3)
    assert errors[-1] < abs(law(DPMSolver(1, eta), process, grid.Uniform()(process, n))[1] - VARIANCE) / 20


def test_more_noise_than_the_reverse_sde_s_keeps_the_law(x64):
    process, steps = RectifiedFlow(), (128, 256, 512)
    errors = [abs(law(SEEDS(2.0), process, grid.Uniform()(process, n))[1] - VARIANCE) for n in steps]
    assert order(steps, errors) == pytest.approx(2, abs=0.3)


def test_a_frame_without_a_half_way_is_seen_as_it_is(x64):
    """One that leaves alpha = 0, and one that ends in data, beside one that looks half-way."""
    process, x, seen = RectifiedFlow(), jnp.asarray(STARTS[:, [0, 1, 0]]), []
    ends = (jnp.broadcast_to(jnp.asarray(row), (8, 3)) for row in ((1.0, 0.6, 0.3), (0.7, 0.4, 0.0)))

    def denoise(x, tau):
        jax.debug.callback(lambda x: seen.append(x), x)
        return Prediction(0 * x, 0 * x)

    SEEDS().step(denoise, process, x, *ends, Told(np.ones((2, *x.shape))), ())
    jax.effects_barrier()
    first, second = seen
    np.testing.assert_array_equal(second[:, [0, 2]], first[:, [0, 2]])
    assert np.abs(second[:, 1] - first[:, 1]).min() > 0.01


def test_less_than_no_noise_is_refused():
    with pytest.raises(UserError, match=r"eta=-0\.5: fresh noise"):
        SEEDS(-0.5)
