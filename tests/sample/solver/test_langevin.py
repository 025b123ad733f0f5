"""Langevin corrections: the law of the score that they are given, guided or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.evaluate import truth
from diorama.evaluate.truth import Classes, Gaussian, Mixture
from diorama.process import EDM, Prediction, RectifiedFlow
from diorama.sample import ClassifierFree, Euler, grid, plan, sample
from diorama.sample.solver.langevin import Langevin

EACH = 12_000
SCALES = np.asarray([2.0, 3.0, 5.0])


def guided(solver, pair, scales, steps, process=None, times=None):
    """`EACH` samples (len(scales), EACH) under each scale of classifier-free guidance."""
    process, times = process or EDM(sigma_data=1.0), times or grid.Karras()
    n = len(scales) * EACH
    rule = ClassifierFree().scaled(jnp.repeat(jnp.asarray(scales, jnp.float32), EACH))
    rows = plan.joint(times(process, steps), 1)
    led = rule(pair.denoiser(process), process, jnp.zeros(1))

    @jax.jit
    def draw(ids):
        return sample(led, process, solver, rows, ids, (1, 1, 1, 1), seed=0, conditions=jnp.ones(n))

    return np.asarray(draw(jnp.arange(n, dtype=jnp.uint32))).reshape(len(scales), EACH)


def test_the_tilted_variance_of_gaussians():
    """2 / (w + 1), where the ODE gives 2^(1 - w) and the SDE (2 - 2^(2 - 2w)) / (2w - 1)."""
    pair = Classes()
    settled = guided(Langevin(corrections=8, size=0.5), pair, SCALES, 100).var(1)
    np.testing.assert_allclose(settled, 2 / (SCALES + 1), rtol=0.03)
    assert (pair.ode_variance(SCALES) < 0.78 * settled).all()
    assert (pair.sde_variance(SCALES) < 0.9 * settled).all()


def test_a_skewed_law():
    """Against quadrature: a law that is no Gaussian, of two Gaussians that overlap."""
    places = ((-0.3,), (0.3,))
    pair = Classes(Mixture(places, (0.7, 0.5), (0.5, 0.5)), Mixture(places, (0.5, 0.4), (0.3, 0.7)))
    law = truth.tilted(pair, 3.0)
    mean, std = law.mean.item(), law.covariance.item() ** 0.5
    (settled,) = guided(Langevin(corrections=8, size=0.5), pair, [3.0], 100)
    (plain,) = guided(Euler(), pair, [3.0], 100)
    assert settled.mean() == pytest.approx(mean, abs=0.015)
    assert settled.std() == pytest.approx(std, rel=0.03)
    assert plain.std() < 0.9 * std


def test_without_guidance_it_keeps_the_law():
    law = Gaussian(0.3, 0.25)
    (found,) = guided(Langevin(4, 0.3), Classes(law, law), [1.0], 60, RectifiedFlow(), grid.Uniform())
    assert found.mean() == pytest.approx(0.3, abs=0.02)
    assert found.var() == pytest.approx(0.25, rel=0.05)


def test_frames_that_wait_stay_and_the_others_see_them():
    process, rows = RectifiedFlow(), plan.autoregressive(grid.Uniform()(RectifiedFlow(), 3), 3, given=1)
    seen = []

    def denoiser(x, tau, conditions):
        jax.debug.callback(lambda x: seen.append(x), x[:, 0])
        return Prediction(0.0 * x, x)

    given = jnp.full((2, 3, 1, 1, 1), 7.0)
    ids = jnp.arange(2, dtype=jnp.uint32)
    found = sample(denoiser, process, Langevin(2, 0.1), rows, ids, (3, 1, 1, 1), seed=0, given=given)
    jax.effects_barrier()
    np.testing.assert_array_equal(found[:, 0], given[:, 0])
    assert all((x == 7).all() for x in seen)
    alone = sample(denoiser, process, Langevin(2, 0.1), rows, ids[1:], (3, 1, 1, 1), seed=0, given=given[1:])
    np.testing.assert_array_equal(alone[0], found[1])


def test_what_it_cannot_do():
    for wrong in ({"corrections": 0}, {"size": 0.0}):
        with pytest.raises(UserError, match="at least 1"):
            Langevin(**wrong)
    assert Langevin(4).evaluations == 5
    assert Langevin().stochastic
