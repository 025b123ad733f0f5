import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.core.random import per_example, stream
from diorama.process import Brownian, Coloured, White, rapsd

IDS = jnp.arange(64, dtype=jnp.uint32)


def motion(shape=(2, 4, 4, 2), ids=IDS, noise=None):
    return Brownian(per_example(stream(0, "test"), ids), shape, noise or White())


def at(value, b=64, t=2):
    return jnp.full((b, t), value)


@pytest.mark.parametrize("noise", [White(), Coloured(2.0), Coloured(1.0, time=1.0)], ids=str)
def test_every_value_has_unit_variance(noise):
    drawn = noise.draw(stream(0, "a"), jnp.arange(400, dtype=jnp.uint32), (4, 8, 8, 2))
    assert float(drawn.var()) == pytest.approx(1, rel=0.05)
    np.testing.assert_allclose(drawn.var((0, 4)), 1, atol=0.3)
    assert abs(float(drawn.mean())) < 0.05


def test_coloured_noise_has_its_spectrum():
    """Radial averages of power: k^-2 over the octaves, white across frames where `time` is 0."""
    drawn = Coloured(space=2.0).draw(stream(0, "a"), jnp.arange(200, dtype=jnp.uint32), (2, 32, 32, 1))
    power = np.asarray(rapsd(drawn)).mean((0, 1, 3))
    slope = np.polyfit(np.log(np.arange(2, 16)), np.log(power[1:15]), 1)[0]
    assert slope == pytest.approx(-2, abs=0.1)
    assert float((drawn[:, 0] * drawn[:, 1]).mean()) == pytest.approx(0, abs=0.1)


def test_colour_zero_is_white():
    white = jax.random.normal(jax.random.key(0), (3, 2, 4, 6, 1))
    np.testing.assert_allclose(Coloured(0.0).colour(white), white, atol=1e-6)


def test_a_rising_spectrum_is_refused():
    with pytest.raises(UserError, match="no negative exponent"):
        Coloured(-1.0)


def test_increments_are_standard_normal_and_independent():
    noise = motion((2, 8, 8, 2))
    a, b = noise(at(0.9), at(0.7)), noise(at(0.7), at(0.1))
    for drawn in (a, b):
        assert float(drawn.var()) == pytest.approx(1, rel=0.05)
    assert float((a * b).mean()) == pytest.approx(0, abs=0.02)
    assert float((a[:, 0] * a[:, 1]).mean()) == pytest.approx(0, abs=0.03)


def test_parts_of_an_interval_add_up(x64):
    """A motion and not a new draw each time: what two steps draw, one step draws as well."""
    noise = motion()
    whole = noise(at(0.8), at(0.3)) * jnp.sqrt(0.5)
    parts = noise(at(0.8), at(0.55)) * jnp.sqrt(0.25) + noise(at(0.55), at(0.3)) * jnp.sqrt(0.25)
    np.testing.assert_allclose(whole, parts, atol=1e-9)


def test_it_belongs_to_the_example_and_to_the_frame_s_own_time():
    alone = motion(ids=IDS[5:6])(at(0.6, 1), at(0.2, 1))
    np.testing.assert_array_equal(alone[0], motion()(at(0.6), at(0.2))[5])
    apart = jnp.stack([jnp.full(64, 0.6), jnp.full(64, 0.9)], axis=1)
    np.testing.assert_array_equal(motion()(apart, at(0.2))[:, 0], motion()(at(0.6), at(0.2))[:, 0])


def test_no_time_no_noise_and_another_motion_again():
    noise = motion()
    assert (noise(at(0.4), at(0.4)) == 0).all()
    again = noise.again(1)(at(0.6), at(0.2))
    assert float((again * noise(at(0.6), at(0.2))).mean()) == pytest.approx(0, abs=0.05)
