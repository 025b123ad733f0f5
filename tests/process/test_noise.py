import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.core.random import per_example, stream
from diorama.process import EDM, Brownian, Coloured, White, rapsd
from diorama.sample import DDIM
from diorama.sample.solver.exponential import SEEDS
from tests.sample.truths import gaussian, order

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


ONE = (jnp.zeros((400, 8)).at[:, 3].set(time) for time in (0.9, 0.7, 0.6))  # one of eight frames moves
JOINED = motion((8, 4, 4, 2), jnp.arange(400, dtype=jnp.uint32), Coloured(1.0, time=2.0))


def test_noise_that_joins_frames_has_unit_variance_where_others_stand_still():
    one, two, three = ONE
    drawn, later = JOINED(one, two), JOINED(two, three)
    assert float(drawn[:, 3].var()) == pytest.approx(1, rel=0.05)
    assert (drawn[:, :3] == 0).all()
    assert float((drawn * later)[:, 3].mean()) == pytest.approx(0, abs=0.05)
    whole, parts = drawn * jnp.sqrt(0.2) + later * jnp.sqrt(0.1), JOINED(one, three) * jnp.sqrt(0.3)
    np.testing.assert_allclose(whole[:, 3], parts[:, 3], atol=1e-2)  # the other frames' motion is one as well
    at, then = JOINED.at(one), JOINED.at(two)
    assert float((at * then).mean()) == pytest.approx(0, abs=0.05)


def test_no_time_no_noise_and_another_motion_again():
    noise = motion()
    assert (noise(at(0.4), at(0.4)) == 0).all()
    again = noise.again(1)(at(0.6), at(0.2))
    assert float((again * noise(at(0.6), at(0.2))).mean()) == pytest.approx(0, abs=0.05)


def test_what_is_known_is_what_would_be_found():
    """Also by the bit: a step that begins where the last one ended need not look for the motion there."""
    noise, tau, tau_next = motion(), at(0.6), at(0.2)
    found = noise(tau, tau_next)
    np.testing.assert_array_equal(noise.knowing(tau).knowing(tau_next)(tau, tau_next), found)
    np.testing.assert_array_equal(noise.knowing(tau, noise.motion(at(0.6)))(tau, tau_next), found)
    nothing = jnp.zeros((64, 2, 4, 4, 2))
    assert noise.knowing(tau, nothing).motion(tau) is nothing


@pytest.mark.parametrize("solver", [DDIM(eta=1.0), SEEDS()], ids=str)
def test_with_more_steps_a_noisy_solver_comes_to_one_clip(solver, x64):
    """Strong convergence: for the same id, 20, 40, 80 and 160 steps differ less and less, with a slope of 1/2 or more.

    All run side by side, those that are done wait in data; at these ids' places in the batch nobody looks.
    """
    process, steps, ids = EDM(), (20, 40, 80, 160), jnp.arange(32, dtype=jnp.uint32)
    rows = np.stack([np.pad(np.linspace(1.0, 0.0, n + 1), (0, 160 - n)) for n in steps], axis=1)
    x = process.sigma_max * jax.random.normal(jax.random.key(0), (32, 1, 2, 2, 1))
    noise = Brownian(per_example(stream(0, "test"), jnp.tile(ids, 4)), x.shape[1:], White())

    def step(x, now):
        return solver.step(gaussian(process, 0.3, 0.25), process, x, *(t[:, None] for t in now), noise, ())[0], None

    rows = jnp.asarray(np.repeat(rows, 32, axis=1))
    found = jax.jit(lambda x: jax.lax.scan(step, x, (rows[:-1], rows[1:]))[0])(jnp.tile(x, (4, 1, 1, 1, 1)))
    found = found.reshape(4, 32, -1)
    apart = np.sqrt(np.mean((found[1:] - found[:-1]) ** 2, axis=(1, 2)))
    assert order(steps[:3], apart) > 0.6, apart
    assert apart[-1] < 0.04
