import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.process import EDM, CosineVP, LinearVP, Prediction, RectifiedFlow
from diorama.sample import DDIM, Euler, Heun, classifier_free, grid
from tests.sample.truths import gaussian, march

X = jax.random.normal(jax.random.key(0), (4, 3, 2, 2, 1))
TAU = jnp.asarray([[0.2, 0.5, 0.9]] * 4)
ONES, TWO = jnp.ones(4), jnp.full((4,), 2.0)


def counting(denoiser):
    """`denoiser`, and the batch sizes it was run with."""
    batches = []

    def counted(x, tau, conditions):
        jax.debug.callback(lambda: batches.append(x.shape[0]))
        return denoiser(x, tau, conditions)

    return counted, batches


def same(a: Prediction, b: Prediction, **tolerance):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, **(tolerance or {"rtol": 0, "atol": 0}))


def test_scale_one_is_the_denoiser_itself():
    denoiser = gaussian(RectifiedFlow())
    assert classifier_free(denoiser, TWO, 1.0) is denoiser
    same(classifier_free(denoiser, TWO, jnp.ones(4))(X, TAU, ONES), denoiser(X, TAU, ONES))


def test_scale_zero_is_the_null():
    denoiser = gaussian(RectifiedFlow())
    same(classifier_free(denoiser, TWO, 0.0)(X, TAU, ONES), denoiser(X, TAU, TWO), rtol=1e-5, atol=1e-6)


def test_one_call_of_twice_the_batch_and_one_null_for_all():
    denoiser, batches = counting(gaussian(RectifiedFlow()))
    found = classifier_free(denoiser, jnp.full((1,), 2.0), 3.0)(X, TAU, ONES)
    jax.effects_barrier()
    assert batches == [8]
    a, b = denoiser(X, TAU, ONES), denoiser(X, TAU, TWO)
    same(found, jax.tree.map(lambda c, n: n + 3.0 * (c - n), a, b), rtol=1e-5, atol=1e-6)


def test_guided_pairs_are_still_pairs():
    for process in (RectifiedFlow(), LinearVP(), EDM()):
        found, at = classifier_free(gaussian(process), TWO, 4.0)(X, TAU, ONES), process.at(TAU, 5)
        np.testing.assert_allclose(at.alpha * found.x0 + at.sigma * found.epsilon, X, rtol=1e-3, atol=2e-5)


def test_interval_is_per_frame_and_costs_nothing_outside():
    denoiser, batches = counting(gaussian(RectifiedFlow()))
    guided = jax.jit(classifier_free(denoiser, TWO, 3.0, interval=(0.3, 0.6)))
    full, bare = classifier_free(denoiser, TWO, 3.0)(X, TAU, ONES), denoiser(X, TAU, ONES)
    jax.effects_barrier()
    batches.clear()
    found = guided(X, TAU, ONES)
    for frame, expected in ((0, bare), (1, full), (2, bare)):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a[:, frame], b[:, frame], rtol=1e-5, atol=1e-6)
    guided(X, jnp.full((4, 3), 0.8), ONES)
    jax.effects_barrier()
    assert batches == [8, 4]


def test_scale_per_example_and_conditions_of_any_structure():
    def denoiser(x, tau, conditions):
        return Prediction(x * conditions["a"][:, None, None, None, None], x + conditions["b"].sum())

    conditions = {"a": jnp.arange(4.0), "b": jnp.zeros((4, 2), jnp.int32)}
    null = {"a": jnp.zeros(1), "b": jnp.zeros((1, 2), jnp.int32)}
    found = classifier_free(denoiser, null, jnp.asarray([0.0, 1.0, 2.0, 3.0]))(X, TAU, conditions)
    for i in range(4):
        np.testing.assert_allclose(found.x0[i], i * i * X[i], rtol=1e-5, atol=1e-6)


def test_guidances_compose():
    denoiser, null = gaussian(RectifiedFlow()), TWO[:1]
    twice = classifier_free(classifier_free(denoiser, null, 2.0), null, 3.0)
    # The inner one guides the null by itself, which changes nothing: null + 6 (conditional - null) in all.
    same(twice(X, TAU, ONES), classifier_free(denoiser, TWO, 6.0)(X, TAU, ONES), rtol=1e-4, atol=1e-5)


SCALES = jnp.asarray([2.0, 3.0, 5.0])
guided_processes = pytest.mark.parametrize(
    "process", [EDM(sigma_max=400.0), RectifiedFlow(), CosineVP()], ids=lambda p: type(p).__name__
)


def guided(process, b=3):
    """p = N(0, 2) led towards p_c = N(0, 1), an example a scale."""
    denoiser = classifier_free(gaussian(process), jnp.full((1,), 2.0), jnp.resize(SCALES, (b,)))
    return lambda x, tau: denoiser(x, tau, jnp.ones(b))


@guided_processes
def test_what_guidance_samples(process, x64):
    """Variance 2^(1 - scale), not the tilted law's 2/(scale + 1) (Bradley & Nakkiran 2024, arXiv 2408.09000).

    The map from noise is linear, so its variance is the square of where it takes one.
    """
    x, taus = jnp.full((3, 1, 1, 1, 1), process.sigma(1.0)), grid.Karras(sigma_max=400.0)(process, 300)
    for solver, tolerance in ((Euler(), 0.1), (Heun(), 3e-3)):
        found = march(solver, process, guided(process), taus, x).ravel() ** 2
        np.testing.assert_allclose(found, 2 ** (1 - SCALES), rtol=tolerance)


@guided_processes
def test_what_guided_ancestral_steps_sample(process, x64):
    """Variance (2 - 2^(2 - 2 scale)) / (2 scale - 1): the second column of the same table."""
    taus = grid.Karras(sigma_max=400.0)(process, 3000)
    exact = (2 - 2 ** (2 - 2 * SCALES)) / (2 * SCALES - 1)
    np.testing.assert_allclose(ancestral_variance(process, guided(process), taus), exact, rtol=0.01)


def ancestral_variance(process, denoise, taus):
    """DDIM with eta = 1 on linear denoisers: x' = m x + n z, and so variance' = m^2 variance + n^2."""

    @jax.jit
    def run(taus):
        def step(variance, now):
            tau, tau_next = now
            pair = denoise(jnp.ones((3, 1, 1, 1, 1)), jnp.full((3, 1), tau))
            a, b = process.at(tau, 0), process.at(tau_next, 0)
            kept = a.alpha * b.sigma / (b.alpha * a.sigma)
            m = (b.alpha * pair.x0 + b.sigma * kept * pair.epsilon).ravel()
            return m**2 * variance + b.sigma**2 * (1 - kept**2), None

        return jax.lax.scan(step, jnp.full(3, process.sigma(taus[0]) ** 2), (taus[:-1], taus[1:]))[0]

    return run(jnp.asarray(taus))


def test_ancestral_variance_is_that_of_the_solver(x64):
    """The recursion above, against draws from the solver itself."""
    process, taus = RectifiedFlow(), grid.Karras()(RectifiedFlow(), 40)
    x = jax.random.normal(jax.random.key(0), (9000, 1, 1, 1, 1), float)
    drawn = march(DDIM(eta=1.0), process, guided(process, 9000), taus, x).reshape(-1, 3).var(0)
    np.testing.assert_allclose(drawn, ancestral_variance(process, guided(process), taus), rtol=0.08)
