"""The likelihood of the ring of six Gaussians in the plane (algorithms 2.1.4), in double precision."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.evaluate.truth import Gaussian, ring
from diorama.process import EDM, Coloured, RectifiedFlow
from diorama.sample.likelihood import Exact, Hutchinson, Normal, bits_per_dimension, likelihood
from tests.sample.truths import order

RING = ring(6, 1.0, 0.25)
VARIANCE = 0.5 + 0.25**2
B = 128


@cache
def errors(steps, process=EDM(), trace=Exact(), variance=VARIANCE):  # noqa: B008
    """log p found minus that of the data noised by sigma = 0.002, and the standard error that is said."""
    x, ids = RING.draw(jax.random.key(0), B), jnp.arange(B, dtype=jnp.uint32)
    truth = RING.logp(x, EDM(), EDM().tau_of_logsnr(-2 * jnp.log(0.002)))

    @jax.jit
    def run(x, ids):
        return likelihood(
            RING.denoiser(process), process, x, ids, trace=trace, steps=steps, prior=Normal(0.0, variance)
        )

    found = run(x, ids)
    return np.asarray(found.log_density - truth), np.asarray(found.error)


def test_it_is_exact_to_fourth_order(x64):
    """Reference: 6.0e-4, 4.2e-5 and 2.8e-6 nats at 32, 64 and 128 steps."""
    steps, expected = [32, 64, 128], [6.0e-4, 4.2e-5, 2.8e-6]
    found = [np.abs(errors(n)[0]).mean() for n in steps]
    np.testing.assert_allclose(found, expected, rtol=0.15)
    assert found[-1] < 5e-6
    assert order(steps, found) == pytest.approx(4, abs=0.3)
    assert (errors(128)[1] == 0).all()


def test_any_process_tells_the_same(x64):
    assert np.abs(errors(128, RectifiedFlow())[0]).mean() < 5e-6


def test_the_usual_prior_has_a_floor(x64):
    """N(0, sigma_max^2) forgets the data's variance: by up to D variance / (2 sigma_max^2) nats."""
    floor = np.abs(errors(128, EDM(), Exact(), 0.0)[0])
    assert floor.mean() > 5e-5
    assert floor.mean() < 2 * VARIANCE / 80**2


def test_hutchinson_is_unbiased_within_what_it_says(x64):
    missed, said = errors(64, EDM(), Hutchinson(probes=32))
    z = missed / said
    assert abs(z.mean()) < 3.5 / np.sqrt(B)
    assert z.std() == pytest.approx(1, abs=0.25)
    assert said.mean() < 0.2


def test_probes_belong_to_the_example():
    x, process = RING.draw(jax.random.key(0), 4).astype(jnp.float32), RectifiedFlow()

    def run(rows):
        ids = jnp.asarray([5, 9, 2, 7], jnp.uint32)[rows]
        return likelihood(RING.denoiser(process), process, x[rows], ids, trace=Hutchinson(2), steps=8).log_density

    np.testing.assert_allclose(run(jnp.asarray([2, 1])), run(jnp.arange(4))[jnp.asarray([2, 1])], rtol=1e-5)


def test_the_noise_is_normal(x64):
    law, process = Gaussian(0.0, 1.0, (2, 2, 2, 1)), RectifiedFlow()
    x = law.draw(jax.random.key(1), 200)
    ids = jnp.arange(200, dtype=jnp.uint32)
    found = jax.jit(lambda x: likelihood(law.denoiser(process), process, x, ids, trace=Exact(), steps=192))(x)
    np.testing.assert_allclose(found.noise, x / jnp.sqrt(1 + 0.002**2), atol=1e-6)  # the ODE keeps each place
    np.testing.assert_allclose(found.log_density, law.logp(x, process), atol=1e-4)


def test_the_noise_has_the_priors_spread():
    """Of N(0.5, 0.25) at sigma_max = 1, where the data are no small part of what arrives."""
    law, process = Gaussian(0.5, 0.25, (1, 2, 2, 1)), EDM(sigma_max=1.0)
    x, ids = law.draw(jax.random.key(2), 64), jnp.arange(64, dtype=jnp.uint32)
    found = likelihood(law.denoiser(process), process, x, ids, trace=Exact(), steps=32, prior=Normal(0.5, 0.25))
    np.testing.assert_allclose(found.noise, (x - 0.5) / 0.5, atol=1e-3)  # the ODE keeps each place


def test_the_elbo_is_the_likelihood(x64):
    """-log p(x) = D/2 log(2 pi e) - 1/2 integral of D sigmoid(logsnr) - E|epsilon^ - epsilon|^2 (I-MMSE; Kong et al.
    2023, arXiv 2302.03792): with a perfect denoiser and w = 1 the bound is tight, point by point."""
    process, variance, x = RectifiedFlow(), 0.3, 0.4
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    logsnr = jnp.linspace(-40.0, 40.0, 16001)
    tau = process.tau_of_logsnr(logsnr)
    epsilon = jnp.asarray(nodes)
    noisy = process.alpha(tau)[:, None] * x + process.sigma(tau)[:, None] * epsilon
    denoise = Gaussian(0.0, variance).denoiser(process)
    seen = denoise(noisy.reshape(-1, 1, 1, 1, 1), jnp.repeat(tau, len(nodes))).epsilon.reshape(noisy.shape)
    error = ((seen - epsilon) ** 2 @ jnp.asarray(weights)) / np.sqrt(2 * np.pi)
    integral = jnp.trapezoid(jax.nn.sigmoid(logsnr) - error, logsnr)
    nats = 0.5 * np.log(2 * np.pi * np.e) - 0.5 * integral
    truth = 0.5 * (np.log(2 * np.pi * variance) + x**2 / variance)
    assert float(nats) == pytest.approx(truth, abs=2e-6)


def test_bits_per_dimension():
    """Uniform over 256 codes in [-1, 1] is 8 bits."""
    assert float(bits_per_dimension(jnp.asarray(-3 * np.log(2 * 256 / 255)), 3, 2 / 255)) == pytest.approx(8)


def test_what_it_refuses():
    with pytest.raises(UserError, match="at least 2"):
        Hutchinson(probes=1)
    process = RectifiedFlow(noise=Coloured())
    with pytest.raises(UserError, match="white noise"):
        likelihood(None, process, jnp.zeros((1, 1, 4, 4, 1)), jnp.zeros(1, jnp.uint32), trace=Exact())
    for wrong in ({"steps": 0}, {"sigma_min": 0.0}, {"sigma_min": 80.0}, {"sigma_max": float("nan")}):
        with pytest.raises(UserError, match="are no way"):
            likelihood(None, EDM(), jnp.zeros((1, 1, 4, 4, 1)), jnp.zeros(1, jnp.uint32), trace=Exact(), **wrong)
