import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from diorama.core import UserError
from diorama.process import EDM, PROCESSES, Coloured, Process, RectifiedFlow, Shifted, White, rapsd
from diorama.process.spectrum import (
    band,
    drowning,
    noise_in_space,
    noise_in_time,
    octaves,
    power_law,
    radius,
    share_in_space,
    share_in_time,
    standing,
    tpsd,
)

PHOTOS = ("china.jpg", "flower.jpg")


def random_field(shape: tuple[int, ...], space: float, time: float = 0.0) -> np.ndarray:
    """Gaussian clips (b, t, h, w, 1), periodic, whose power falls as frequency^-space and frequency^-time."""
    return np.asarray(Coloured(space, time).colour(jax.random.normal(jax.random.key(0), shape)))


def test_white_noise_is_flat_at_its_variance():
    noise = 1.5 * jax.random.normal(jax.random.key(0), (64, 1, 32, 48, 3))
    power = rapsd(noise)
    assert power.shape == (64, 1, 16, 3)
    np.testing.assert_allclose(power.mean((0, 1, 3)), 1.5**2, rtol=0.05)


def test_white_noise_is_one_within_two_in_a_hundred():
    noise = jax.random.normal(jax.random.key(0), (512, 8, 16, 16, 1))
    np.testing.assert_allclose(rapsd(noise).mean((0, 1, 3)), 1, atol=0.02)
    np.testing.assert_allclose(tpsd(noise).mean((0, 2)), 1, atol=0.02)


def test_a_wave_stands_at_its_frequency():
    wave = np.cos(2 * np.pi * 5 * np.arange(32) / 32)[None, :, None] * np.ones((32, 1, 1))
    power = np.asarray(rapsd(jnp.asarray(wave)))[:, 0]
    assert power.argmax() == 4
    assert power[4] > 1e6 * np.delete(power, 4).max()


def test_what_pulses_stands_at_its_frequency():
    pulse = np.cos(2 * np.pi * 3 * np.arange(9) / 9)[:, None, None, None] * np.ones((9, 4, 4, 1)) + 7.0
    power = np.asarray(tpsd(jnp.asarray(pulse)))[:, 0]
    assert power.shape == (4,)
    np.testing.assert_allclose(power, [0, 0, 9 / 4, 0], atol=1e-5)


def test_brightness_does_not_count():
    x = jax.random.normal(jax.random.key(0), (8, 8, 1))
    np.testing.assert_allclose(rapsd(x + 3.0), rapsd(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0])
def test_a_field_of_known_slope_is_measured(x64, exponent):
    x = random_field((16, 1, 128, 128, 1), exponent)
    found = power_law(np.asarray(rapsd(x)).mean((0, 1, 3)))
    assert found.exponent == pytest.approx(-exponent, abs=0.05)
    assert 0 < found.error < 0.02
    k = np.arange(1, 65)
    np.testing.assert_allclose(found(k)[8:], np.asarray(rapsd(x)).mean((0, 1, 3))[8:], rtol=0.2)


def test_a_slope_in_time_is_measured_whatever_that_in_space(x64):
    x = random_field((16, 64, 16, 16, 1), 2.0, 2.0)
    assert power_law(np.asarray(tpsd(x)).mean((0, 2))).exponent == pytest.approx(-2, abs=0.05)
    still = random_field((16, 64, 16, 16, 1), 2.0)
    assert power_law(np.asarray(tpsd(still)).mean((0, 2))).exponent == pytest.approx(0, abs=0.05)


def test_the_error_of_a_slope_is_what_slopes_scatter_by():
    rng, k = np.random.default_rng(0), np.arange(1, 65)
    laws = [power_law(k**-2.0 * np.exp(0.3 * rng.normal(size=64))) for _ in range(400)]
    scatter = np.std([law.exponent for law in laws])
    assert np.mean([law.error for law in laws]) == pytest.approx(scatter, rel=0.1)
    assert np.mean([law.exponent for law in laws]) == pytest.approx(-2, abs=3 * scatter / 20)


def test_a_slope_wants_power():
    with pytest.raises(UserError, match="three frequencies"):
        power_law(np.ones(2))
    with pytest.raises(UserError, match="have power"):
        power_law(np.zeros(16))
    assert band(4) == (1, 4)
    assert band(213) == (5, 149)


@pytest.mark.parametrize("shape", [(16, 16), (12, 20), (9, 9)])
def test_octaves_hold_all_variance_but_the_corners(shape):
    x = np.random.default_rng(0).normal(size=(*shape, 1))
    x -= x.mean()
    found = octaves(np.asarray(rapsd(jnp.asarray(x)))[:, 0], share_in_space(*shape))
    spectrum = np.abs(np.fft.fft2(x[..., 0])) ** 2 / np.prod(shape) ** 2
    inside = np.rint(radius(*shape)) <= min(shape) // 2
    assert found.sum() == pytest.approx(spectrum[inside].sum(), rel=1e-5)
    second = (np.rint(radius(*shape)) >= 2) & (np.rint(radius(*shape)) < 4)
    assert found[1] == pytest.approx(spectrum[second].sum(), rel=1e-5)
    assert len(found) == (min(shape) // 2).bit_length()


@pytest.mark.parametrize("t", [8, 9])
def test_octaves_in_time_hold_all_that_moves(t):
    x = np.random.default_rng(0).normal(size=(t, 4, 4, 1))
    found = octaves(np.asarray(tpsd(jnp.asarray(x)))[:, 0], share_in_time(t))
    assert found.sum() == pytest.approx(x.var(0).mean(), rel=1e-5)


@pytest.mark.parametrize("process", [kind() for kind in PROCESSES if kind.__name__ != "ShiftedBySize"], ids=repr)
def test_a_frequency_drowns_where_noise_is_as_strong(process: Process, x64):
    power, noise = np.array([100.0, 1.0, 0.01]), np.array([3.0, 1.0, 0.2])
    tau = drowning(process, power, noise)
    at = process.at(jnp.asarray(tau), 1)
    inside = tau < 1
    assert inside[1:].all()
    np.testing.assert_allclose((at.alpha**2 * power)[inside], (at.sigma**2 * noise)[inside], rtol=1e-6)
    assert (at.alpha**2 * power >= at.sigma**2 * noise * (1 - 1e-6)).all()


def test_what_never_drowns_and_what_was_never_there():
    np.testing.assert_array_equal(drowning(EDM(sigma_max=2.0), np.array([100.0, 0.0])), [1, 0])
    np.testing.assert_allclose(drowning(RectifiedFlow(), np.array([1.0, 4.0])), [1 / 2, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(drowning(Shifted(RectifiedFlow(), 3.0), np.array([1.0])), [1 / 4], rtol=1e-6)
    np.testing.assert_array_equal(drowning(Shifted(EDM(), 4.0), np.array([1e9])), [1.0])  # it never does


def test_the_spectrum_of_noise_is_that_of_its_draws():
    np.testing.assert_allclose(noise_in_space(White(), 3, 8, 12), 1, rtol=1e-6)
    np.testing.assert_allclose(noise_in_time(White(), 6, 4, 4), 1, rtol=1e-6)
    noise, shape = Coloured(1.5, 0.5), (6, 8, 12, 2)
    drawn = noise.draw(jax.random.key(0), jnp.arange(1000, dtype=jnp.uint32), shape)
    np.testing.assert_allclose(rapsd(drawn).mean((0, 1, 3)), noise_in_space(noise, *shape[:3]), rtol=0.05)
    np.testing.assert_allclose(tpsd(drawn).mean((0, 2)), noise_in_time(noise, *shape[:3]), rtol=0.05)


def test_in_noise_of_the_datas_own_colour_all_frequencies_drown_together():
    noise = Coloured(2.0)
    own = noise_in_space(noise, 1, 32, 32)
    tau = drowning(RectifiedFlow(), 4 * own, own)
    np.testing.assert_allclose(tau, 2 / 3, rtol=1e-5)
    assert np.ptp(drowning(RectifiedFlow(), 4 * own)) > 0.4


def corner(name: str) -> np.ndarray:
    """The upper left square of a photo, grey, in [-1, 1]."""
    return (load_sample_image(name) / 127.5 - 1).mean(-1)[:, :427]


@pytest.mark.parametrize(("name", "slope", "cuts"), [(PHOTOS[0], -1.94, (152, 29)), (PHOTOS[1], -2.67, (63, 21))])
def test_photos_by_the_references_definition_and_by_ours(name, slope, cuts, x64):
    """The reference (algorithms 2.1.8) rounds radii down where we round, and fits 5 to 0.7 x 212 cycles."""
    grey = corner(name)
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2 / grey.size
    ring = radius(*grey.shape).astype(int).ravel()
    down = (np.bincount(ring, power.ravel()) / np.bincount(ring))[1:213]
    k = np.arange(5, 149)
    assert np.polyfit(np.log(k), np.log(down[4:148]), 1)[0] == pytest.approx(slope, abs=0.005)
    assert (standing(down, 0.2), standing(down, 0.8)) == cuts
    ours = np.asarray(rapsd(jnp.asarray(grey[..., None])))[:, 0]
    assert power_law(ours).exponent == pytest.approx(slope, abs=0.05)
    assert standing(ours, 0.2) == pytest.approx(cuts[0], abs=1)
    assert standing(ours, 0.8) == pytest.approx(cuts[1], abs=2)
