"""The way of a sample ends where `sample` does, and its frequencies come one after the other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.process import Coloured, Prediction, RectifiedFlow, ShiftedBySize, rapsd
from diorama.process.spectrum import drowning, noise_in_space
from diorama.sample import DDIM, DPMSolver, Heun, plan, sample
from diorama.sample.trajectory import trajectory
from tests.sample.truths import field, gaussian

IDS = jnp.arange(3, dtype=jnp.uint32)


@pytest.mark.parametrize("solver", [Heun(), DPMSolver(2), DDIM(eta=1.0)], ids=repr)
def test_it_ends_where_sampling_does(solver):
    process, shape, taus = RectifiedFlow(), (2, 4, 4, 1), np.linspace(1, 0, 6)
    common = dict(seed=3, conditions=jnp.array([0.5, 1.0, 2.0]))
    denoiser = gaussian(process)
    x, x0 = jax.jit(lambda ids: trajectory(denoiser, process, solver, taus, ids, shape, **common))(IDS)
    rows = plan.joint(taus, 2)
    wanted = jax.jit(lambda ids: sample(denoiser, process, solver, rows, ids, shape, **common))(IDS)
    np.testing.assert_allclose(x, wanted, rtol=1e-5, atol=1e-6)
    assert x0.shape == (5, 3, *shape)
    np.testing.assert_allclose(x0[0], 0, atol=1e-6)  # of pure noise nothing is known but the mean


def test_the_process_is_that_of_the_clips_size():
    process, shape, taus = ShiftedBySize(base=8), (1, 4, 4, 2), np.linspace(1, 0, 5)
    own = process.of(shape)
    x, _ = jax.jit(lambda ids: trajectory(gaussian(own), process, Heun(), taus, ids, shape, seed=0))(IDS)
    wanted = jax.jit(lambda ids: trajectory(gaussian(own), own, Heun(), taus, ids, shape, seed=0))(IDS)[0]
    np.testing.assert_array_equal(x, wanted)


def test_the_denoiser_is_not_asked_twice_for_the_same():
    """What is compiled evaluates the denoiser once a step of a first-order solver: its products are counted."""

    def denoiser(x, tau, conditions):
        pair = gaussian(RectifiedFlow())(x, tau)
        return Prediction(pair.x0 @ conditions, pair.epsilon)

    taus, matrix = np.linspace(1, 0, 5), jnp.eye(64)
    run = jax.jit(
        lambda c: trajectory(denoiser, RectifiedFlow(), DDIM(), taus, IDS, (1, 8, 8, 64), seed=0, conditions=c)
    )
    assert run.lower(matrix).compile().as_text().count(" dot(") == 1


def test_of_a_random_field_each_frequency_comes_when_it_rises_out_of_the_noise():
    """The Wiener filter passes half of a frequency's power at the noise time that `drowning` gives."""
    process, size = RectifiedFlow(), 16
    power = 4 * Coloured(2.0).power(1, size, size)[0]
    taus = np.linspace(1, 0, 33)
    draw = jax.jit(partial(trajectory, field(process, power), process, Heun(), taus, shape=(1, size, size, 1), seed=0))
    x, x0 = draw(ids=jnp.arange(64, dtype=jnp.uint32))
    seen, last = (np.asarray(rapsd(y)).mean((-4, -3, -1)) for y in (x0, x))
    truth = 4 * noise_in_space(Coloured(2.0), 1, size, size)
    np.testing.assert_allclose(last[2:], truth[2:], rtol=0.15)
    gain = seen / last  # (steps, k)
    came = np.array([np.interp(0.5, gain[:, k], taus[:-1]) for k in range(len(truth))])
    assert (np.diff(came) < 0).all(), "coarse first"
    np.testing.assert_allclose(came[2:], drowning(process, truth)[2:], atol=0.02)


@pytest.mark.parametrize("solver", [Heun(), DDIM(eta=1.0)], ids=repr)
def test_it_goes_back_up_and_over_frames_as_sampling_does(solver):
    """Restarts, frames that are given, and frames that wait: x0 is told before every step, of every frame."""
    process, shape, given = RectifiedFlow(), (3, 2, 2, 1), jnp.full((3, 3, 2, 2, 1), 5.0)
    restarted = plan.joint(plan.Restart(0.3, 0.6, times=1, steps=1)(np.linspace(1, 0, 4)), 3, given=1)
    for rows in (restarted, plan.pyramid(np.linspace(1, 0, 4), 3, given=1)):
        options = dict(denoiser=gaussian(process), process=process, solver=solver, plan=rows, shape=shape, seed=3)
        x, x0 = jax.jit(lambda ids: trajectory(ids=ids, given=given, **options))(IDS)  # noqa: B023
        wanted = jax.jit(lambda ids: sample(ids=ids, given=given, **options))(IDS)  # noqa: B023
        np.testing.assert_allclose(x, wanted, rtol=1e-5, atol=1e-6)
        assert x0.shape == (len(rows) - 1, 3, *shape)
        np.testing.assert_array_equal(x0[:, :, 0], 5)


def test_a_way_that_begins_below_noise_needs_what_is_given():
    with pytest.raises(UserError, match="below tau = 1, so pass `given`"):
        trajectory(
            gaussian(RectifiedFlow()), RectifiedFlow(), Heun(), np.linspace(0.8, 0, 3), IDS, (1, 4, 4, 1), seed=0
        )
