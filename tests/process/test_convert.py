import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, Coloured, RectifiedFlow, Shifted, ShiftedBySize, Trigonometric, as_process
from tests.process.test_gaussian import PROCESSES
from tests.sample.truths import gaussian

TAUS = np.array([[0.0, 1e-3, 0.2], [0.5, 0.9, 0.99]])
each = pytest.mark.parametrize("trained", PROCESSES, ids=lambda p: f"from {type(p).__name__}")
other = pytest.mark.parametrize("used", PROCESSES, ids=lambda p: f"to {type(p).__name__}")


@each
@other
def test_the_truth_of_one_process_is_that_of_the_other(trained, used, x64):
    """x0 ~ N(1, 2): the exact denoiser of one process, converted, is the exact denoiser of the other."""
    x = jax.random.normal(jax.random.key(0), (2, 3, 2, 2, 1), jnp.float64) * 3
    found = as_process(gaussian(trained, 1.0, 2.0), trained, used)(x, jnp.asarray(TAUS), None)
    truth = gaussian(used, 1.0, 2.0)(x, jnp.asarray(TAUS))
    inside = np.asarray(used.logsnr(jnp.asarray(TAUS)) >= trained.logsnr(jnp.ones(())))[:, :, None, None, None]
    assert inside.sum() >= 4
    for a, b in ((found.x0, truth.x0), (found.epsilon, truth.epsilon)):
        np.testing.assert_allclose(np.where(inside, a, 0), np.where(inside, b, 0), rtol=1e-7, atol=1e-7)


@each
@other
def test_the_pair_makes_up_x_at_every_noise_time(trained, used):
    """In single precision, both ends too: also where the other process never was so noisy."""
    tau = jnp.asarray([[0.0, 1e-4, 0.5, 0.999, 1.0]])
    x0, epsilon = jax.random.normal(jax.random.key(1), (2, 1, 5, 2, 2, 1))
    x = used.add_noise(x0, epsilon, tau)
    found = as_process(gaussian(trained), trained, used)(x, tau, None)
    level = used.at(tau, 5)
    size = np.asarray(level.scale)
    np.testing.assert_allclose(
        (level.alpha * found.x0 + level.sigma * found.epsilon) / size, x / size, rtol=0, atol=2e-5
    )
    np.testing.assert_allclose(found.x0[:, 0], x[:, 0], atol=1e-6)  # there is no noise to find


def test_rectified_flow_as_trigflow_is_the_published_formula(x64):
    """SANA-Sprint (arXiv 2503.09641): TrigFlow's F from the velocity u of a flow, at t = sin / (sin + cos)."""
    flow, trig, angle = RectifiedFlow(), Trigonometric(sigma_data=1.0), 0.7
    x = jax.random.normal(jax.random.key(0), (1, 1, 2, 2, 1), jnp.float64)
    t = np.sin(angle) / (np.sin(angle) + np.cos(angle))
    size = np.hypot(t, 1 - t)
    u = gaussian(flow, 0.0, 0.3)(size * x, jnp.full((1, 1), t)).to("velocity", flow.at(t, 5))
    published = ((1 - 2 * t) * size * x + (1 - 2 * t + 2 * t**2) * u) / size
    tau = jnp.full((1, 1), angle / (np.pi / 2))
    found = as_process(gaussian(flow, 0.0, 0.3), flow, trig)(x, tau, None)
    np.testing.assert_allclose(-found.to("F", trig.at(tau, 5)), published, rtol=1e-9)  # their F is minus ours


def test_pure_noise_is_given_to_a_process_that_ends_before(x64):
    """What EDM's samplers do: sigma_max times the noise."""
    asked = []

    def denoiser(x, tau, conditions):
        asked.append((x, tau))
        return gaussian(EDM())(x, tau)

    noise = jax.random.normal(jax.random.key(0), (1, 1, 2, 2, 1), jnp.float64)
    as_process(denoiser, EDM(), RectifiedFlow())(noise, jnp.ones((1, 1)), None)
    np.testing.assert_allclose(asked[0][0], 80 * noise, rtol=1e-12)
    assert asked[0][1] == 1


def test_processes_that_go_by_size_are_those_of_the_clip():
    x, tau = jax.random.normal(jax.random.key(0), (2, 1, 2, 2, 1)), jnp.full((2, 1), 0.4)
    sized, alike = ShiftedBySize(base=1), Shifted(RectifiedFlow(), 2.0)  # the root of four values
    for trained, used in ((sized, EDM()), (EDM(), sized)):
        found = as_process(gaussian(trained.of(x.shape[1:])), trained, used)(x, tau, None)
        fixed = (alike if each is sized else each for each in (trained, used))
        expected = as_process(gaussian(trained.of(x.shape[1:])), *fixed)(x, tau, None)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_same_process_needs_no_conversion_and_another_noise_has_none():
    denoiser = gaussian(EDM())
    assert as_process(denoiser, EDM(), EDM()) is denoiser
    with pytest.raises(UserError, match="cannot be used with"):
        as_process(denoiser, EDM(), RectifiedFlow(noise=Coloured()))
