import jax
import jax.numpy as jnp
import numpy as np

from diorama.process import rapsd
from diorama.process.spectrum import radius


def test_white_noise_is_flat_at_its_variance():
    noise = 1.5 * jax.random.normal(jax.random.key(0), (256, 1, 32, 48, 3))
    power = rapsd(noise)
    assert power.shape == (256, 1, 16, 3)
    np.testing.assert_allclose(power.mean((0, 1, 3)), 1.5**2, rtol=0.05)


def test_a_wave_stands_at_its_frequency():
    wave = np.cos(2 * np.pi * 5 * np.arange(32) / 32)[None, :, None] * np.ones((32, 1, 1))
    power = np.asarray(rapsd(jnp.asarray(wave)))[:, 0]
    assert power.argmax() == 4
    assert power[4] > 1e6 * np.delete(power, 4).max()


def test_brightness_does_not_count():
    x = jax.random.normal(jax.random.key(0), (8, 8, 1))
    np.testing.assert_allclose(rapsd(x + 3.0), rapsd(x), rtol=1e-3, atol=1e-4)


def test_a_field_of_known_slope_is_measured(x64):
    k = np.maximum(radius(64, 64), 0.5)
    noise = jax.random.normal(jax.random.key(0), (32, 64, 64, 1))
    x = jnp.fft.ifft2(jnp.fft.fft2(noise, axes=(1, 2)) * (1 / k)[..., None], axes=(1, 2)).real
    power = rapsd(x).mean(0)[2:, 0]
    slope = np.polyfit(np.log(np.arange(3, 33)), np.log(power), 1)[0]
    np.testing.assert_allclose(slope, -2, atol=0.05)
