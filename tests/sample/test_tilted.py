"""Particles against laws whose tilted law is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.evaluate import truth
from diorama.evaluate.truth import Classes, Mixture
from diorama.process import EDM, Coloured, Prediction, RectifiedFlow
from diorama.sample import ClassifierFree, Euler, grid, plan, sample
from diorama.sample.tilted import tilted

B, N = 400, 32
IDS = jnp.arange(B, dtype=jnp.uint32)
POINT = (1, 1, 1, 1)


def run(pair, scale, process, times, steps=60, ids=IDS, n=N, **kw):
    rows = plan.joint(times(process, steps), 1)

    @jax.jit
    def draw(ids, scale):
        conditions = jnp.ones(len(ids))
        return tilted(
            pair.denoiser(process), process, rows, ids, POINT,
            reference=jnp.zeros(1), scale=scale, particles=n, seed=0, conditions=conditions, **kw,
        )  # fmt: skip

    return draw(ids, jnp.asarray(scale, jnp.float32))


def moments(found):
    """Points and weights of all examples together: each by its share and by its example's evidence."""
    weights = jnp.exp(found.log_weights + found.log_evidence[:, None])
    return np.asarray(found.clips).ravel(), np.asarray(weights / weights.sum()).ravel()


@pytest.mark.parametrize(("process", "times"), [(EDM(sigma_data=1.0), grid.Karras()), (RectifiedFlow(), grid.Cosine())])
def test_the_tilted_variance_and_evidence_of_gaussians(process, times):
    """2 / (w + 1), and the integral of p^(1-w) p_c^w is sqrt(2^w / (w + 1)); three scales in one batch."""
    scales = np.asarray([2.0, 3.0, 5.0])
    n = 300
    found = run(Classes(), np.repeat(scales, n), process, times, 200, ids=jnp.arange(3 * n, dtype=jnp.uint32), n=64)
    clips, shares = np.asarray(found.clips).reshape(3, n, 64), np.exp(np.asarray(found.log_weights)).reshape(3, n, 64)
    evidence = np.exp(np.asarray(found.log_evidence)).reshape(3, n)
    together = shares * evidence[:, :, None]
    variance = (together * clips**2).sum((1, 2)) / together.sum((1, 2))
    np.testing.assert_allclose(variance, 2 / (scales + 1), rtol=0.03)
    np.testing.assert_allclose(evidence.mean(1), np.sqrt(2**scales / (scales + 1)), rtol=0.03)


PAIR = Classes(Mixture(((-1.0,), (1.0,)), (0.5, 0.3), (0.5, 0.5)), Mixture(((-1.0,), (1.0,)), (0.3, 0.3), (0.4, 0.6)))


def test_modes_get_their_weights_where_guidance_errs():
    process, law = RectifiedFlow(), truth.tilted(PAIR, 3.0)
    right = law.probabilities[law.grid.ravel() > 0].sum()
    found = run(PAIR, 3.0, process, grid.Cosine())
    x, weights = moments(found)
    chosen = np.asarray(found.choose(IDS, seed=1)).ravel()
    led = ClassifierFree(3.0)(PAIR.denoiser(process), process, jnp.zeros(1))
    rows = plan.joint(grid.Cosine()(process, 100), 1)
    ids = jnp.arange(8000, dtype=jnp.uint32)
    plain = jax.jit(lambda ids: sample(led, process, Euler(), rows, ids, POINT, seed=0, conditions=jnp.ones(len(ids))))(
        ids
    )
    assert weights[x > 0].sum() == pytest.approx(right, abs=0.03)
    assert weights @ x == pytest.approx(law.mean.item(), abs=0.06)
    assert np.log(np.exp(np.asarray(found.log_evidence)).mean()) == pytest.approx(law.log_z, abs=0.03)
    assert (chosen > 0).mean() == pytest.approx(right, abs=0.08)
    assert float((plain > 0).mean()) > right + 0.07
    assert ((found.effective >= 1 / N) & (found.effective <= 1.001)).all()


def test_an_example_is_the_same_in_any_company():
    whole = run(PAIR, np.linspace(1, 4, 6), RectifiedFlow(), grid.Cosine(), steps=12, ids=IDS[:6], n=8)
    alone = run(PAIR, np.linspace(1, 4, 6)[3:4], RectifiedFlow(), grid.Cosine(), steps=12, ids=IDS[3:4], n=8)
    np.testing.assert_allclose(alone.clips[0], whole.clips[3], rtol=1e-5)
    np.testing.assert_allclose(alone.log_weights[0], whole.log_weights[3], rtol=1e-4)
    np.testing.assert_allclose(whole.log_weights[0], -np.log(8), rtol=1e-6)  # scale 1 tilts nothing


def test_frames_of_their_own_times_and_frames_that_are_given():
    """Independent frames: whoever comes first, each frame's variance is that of the tilted law."""
    process, b, n = RectifiedFlow(), 150, 64
    rows = plan.pyramid(grid.Cosine()(process, 40), 3, given=1, lag=10)
    given = jnp.full((b, 3, 1, 1, 1), 0.7)
    found = jax.jit(
        lambda ids: tilted(
            Classes().denoiser(process), process, rows, ids, (3, 1, 1, 1),
            reference=jnp.zeros(1), scale=2.0, particles=n, seed=3, conditions=jnp.ones(b), given=given,
        )
    )(IDS[:b])  # fmt: skip
    np.testing.assert_array_equal(found.clips[:, :, 0], np.float32(0.7))
    weights = np.exp(np.asarray(found.log_weights))[..., None] / b
    variance = (weights * np.asarray(found.clips)[:, :, 1:, 0, 0, 0] ** 2).sum((0, 1))
    np.testing.assert_allclose(variance, 2 / 3, rtol=0.06)
    assert float(jnp.exp(found.log_evidence).mean()) == pytest.approx(4 / 3, rel=0.04)  # of two frames


def test_a_worse_denoiser_is_a_reference_too():
    process, rows = RectifiedFlow(), plan.joint(grid.Cosine()(RectifiedFlow(), 12), 1)
    p, p_c = (law.denoiser(process) for law in (PAIR.marginal, PAIR.conditional))
    by_law = jax.jit(lambda ids: tilted(p_c, process, rows, ids, POINT, reference=p, scale=2.0, particles=8, seed=0))(
        IDS[:4]
    )
    by_condition = run(PAIR, 2.0, process, grid.Cosine(), steps=12, ids=IDS[:4], n=8)
    np.testing.assert_allclose(by_law.clips, by_condition.clips, atol=1e-4)


def test_frames_that_start_below_1_weigh_from_their_first_step():
    """Where x0 and epsilon differ so that g = 1, the weight is w (w - 1) / 2 q(tau), by any steps: q(0.6) here."""
    process, rows = RectifiedFlow(), np.asarray([0.6, 0.4, 0.0])[:, None]

    def strong(x, tau, conditions):
        return Prediction(0 * x, x / process.at(tau, x.ndim).sigma)

    def weak(x, tau, conditions):
        at, pair = process.at(tau, x.ndim), strong(x, tau, conditions)
        whole = at.alpha**2 + at.sigma**2
        return Prediction(pair.x0 + at.sigma**2 / whole, pair.epsilon - at.alpha * at.sigma / whole)

    found = tilted(strong, process, rows, IDS[:2], POINT, reference=weak, scale=3.0, particles=1, seed=0,
                   given=jnp.zeros((2, *POINT)))  # fmt: skip
    np.testing.assert_allclose(found.log_evidence, 3 * 0.6**2 / (0.4**2 + 0.6**2), rtol=1e-5)


def test_what_particles_cannot_do():
    process, rows = RectifiedFlow(), plan.joint(grid.Uniform()(RectifiedFlow(), 4), 1)

    def wrong(said, process=process, rows=rows, n=4):
        with pytest.raises(UserError, match=said):
            tilted(None, process, rows, IDS[:2], POINT, reference=jnp.zeros(1), scale=2.0, particles=n, seed=0)

    wrong("never rises", rows=rows[::-1])
    wrong("pass `given`", rows=rows[1:])
    wrong("lie in", rows=rows - 0.2)
    wrong("lie in", rows=np.where(rows == 0, np.nan, rows))
    wrong("of 1 frames", rows=np.repeat(rows, 2, axis=1))
    wrong("white noise", process=RectifiedFlow(noise=Coloured()))
    wrong("at least 1", n=0)
