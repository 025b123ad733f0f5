"""What holds for every rule, and the plain one against its truths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.config import override, parse, to_text
from diorama.process import EDM, CosineVP, LinearVP, Prediction, RectifiedFlow
from diorama.run import Sampling
from diorama.sample import DDIM, ClassifierFree, Heun, grid
from diorama.sample.guidance import GUIDANCES, Interval, NoiseInterval
from tests.sample.guidance.laws import FLOW, ONES, TAU, TWO, X, counting, same, tilting
from tests.sample.truths import gaussian, march

EXAMPLES = [rule for kind in GUIDANCES for rule in kind.examples()]
every = pytest.mark.parametrize("rule", EXAMPLES, ids=lambda r: f"{type(r).__name__}{EXAMPLES.index(r)}")


@every
def test_scale_one_is_the_denoiser_itself(rule):
    denoiser = tilting()
    assert rule.scaled(1.0)(denoiser, FLOW, TWO) is denoiser
    with jax.disable_jit():  # what is compiled together is rounded together
        same(rule.scaled(jnp.ones(4))(denoiser, FLOW, TWO)(X, TAU, ONES), denoiser(X, TAU, ONES))


@every
@pytest.mark.parametrize("process", [FLOW, LinearVP(), EDM()], ids=lambda p: type(p).__name__)
def test_guided_pairs_are_still_pairs_and_frames_may_rest(rule, process):
    tau = jnp.asarray([[0.0, 0.5, 1.0]] * 4)
    found, at = rule(tilting(process), process, TWO)(X, tau, ONES), process.at(tau, 5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    np.testing.assert_allclose(at.alpha * found.x0 + at.sigma * found.epsilon, X, rtol=1e-3, atol=1e-4)


@every
def test_strong_and_weak_are_one_call_of_twice_the_batch(rule):
    denoiser, batches = counting(tilting())
    rule(denoiser, FLOW, jnp.full((1,), 2.0))(X, TAU, ONES)
    jax.effects_barrier()
    assert batches == [8]


@every
def test_a_rule_says_what_it_did_before_in_a_configuration(rule):
    how = Sampling(guidance=rule)
    assert parse(to_text(how), Sampling) == how
    assert override(Sampling(), [f"guidance={type(rule).__name__}"]).guidance == type(rule)()


@every
def test_every_frame_is_guided_by_itself(rule):
    """Frames have noise times of their own: what one of them holds changes nothing in the others."""
    guided = rule(tilting(), FLOW, TWO)
    found, other = (guided(x, TAU, ONES) for x in (X, X.at[:, 0].multiply(3.0)))
    np.testing.assert_allclose(found.x0[:, 1:], other.x0[:, 1:], rtol=1e-5, atol=1e-5)


def test_scale_zero_is_the_null():
    denoiser = gaussian(FLOW)
    same(ClassifierFree(0.0)(denoiser, FLOW, TWO)(X, TAU, ONES), denoiser(X, TAU, TWO), rtol=1e-5, atol=1e-6)


def test_one_null_for_all():
    denoiser = gaussian(FLOW)
    found = ClassifierFree(3.0)(denoiser, FLOW, jnp.full((1,), 2.0))(X, TAU, ONES)
    a, b = denoiser(X, TAU, ONES), denoiser(X, TAU, TWO)
    same(found, jax.tree.map(lambda c, n: n + 3.0 * (c - n), a, b), rtol=1e-5, atol=1e-6)


def test_away_from_a_worse_denoiser():
    """Autoguidance: two calls, both with the conditions."""
    (good, asked), (worse, too) = counting(gaussian(FLOW)), counting(gaussian(FLOW, mean=1.0))
    found = ClassifierFree(3.0)(good, FLOW, lambda x, tau, conditions: worse(x, tau, None))(X, TAU, ONES)
    jax.effects_barrier()
    assert asked == too == [4]
    a, b = gaussian(FLOW)(X, TAU, ONES), gaussian(FLOW, mean=1.0)(X, TAU)
    same(found, jax.tree.map(lambda c, n: n + 3.0 * (c - n), a, b), rtol=1e-5, atol=1e-5)


def test_interval_is_per_frame_and_costs_nothing_outside():
    denoiser, batches = counting(gaussian(FLOW))
    guided = jax.jit(ClassifierFree(3.0, Interval(0.3, 0.6))(denoiser, FLOW, TWO))
    full, bare = ClassifierFree(3.0)(denoiser, FLOW, TWO)(X, TAU, ONES), denoiser(X, TAU, ONES)
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
    found = ClassifierFree().scaled(jnp.arange(4.0))(denoiser, FLOW, null)(X, TAU, conditions)
    for i in range(4):
        np.testing.assert_allclose(found.x0[i], i * i * X[i], rtol=1e-5, atol=1e-6)


def test_guidances_compose():
    denoiser, null = gaussian(FLOW), TWO[:1]
    twice = ClassifierFree(3.0)(ClassifierFree(2.0)(denoiser, FLOW, null), FLOW, null)
    # The inner one guides the null by itself, which changes nothing: null + 6 (conditional - null) in all.
    same(twice(X, TAU, ONES), ClassifierFree(6.0)(denoiser, FLOW, TWO)(X, TAU, ONES), rtol=1e-4, atol=1e-5)


SCALES = jnp.asarray([2.0, 3.0, 5.0])
guided_processes = pytest.mark.parametrize(
    "process", [EDM(sigma_max=400.0), RectifiedFlow(), CosineVP()], ids=lambda p: type(p).__name__
)


def guided(process, b=3, when=None):
    """p = N(0, 2) led towards p_c = N(0, 1), an example a scale."""
    rule = ClassifierFree(**({} if when is None else {"when": when})).scaled(jnp.resize(SCALES, (b,)))
    denoiser = rule(gaussian(process), process, jnp.full((1,), 2.0))
    return lambda x, tau: denoiser(x, tau, jnp.ones(b))


@guided_processes
def test_what_guidance_samples(process, x64):
    """Variance 2^(1 - scale), not the tilted law's 2/(scale + 1) (Bradley & Nakkiran 2024, arXiv 2408.09000).

    The map from noise is linear, so its variance is the square of where it takes one.
    """
    x, taus = jnp.full((3, 1, 1, 1, 1), process.sigma(1.0)), grid.Karras(sigma_max=400.0)(process, 300)
    found = march(Heun(), process, guided(process), taus, x).ravel() ** 2
    np.testing.assert_allclose(found, 2 ** (1 - SCALES), rtol=3e-3)


@guided_processes
def test_what_guidance_in_an_interval_samples(process, x64):
    """log x^2 falls as log (variance + s^2) with s = sigma/alpha: guidance adds that of 1 less that of 2, within."""
    low, high = 0.5, 4.0
    x, taus = jnp.full((3, 1, 1, 1, 1), process.sigma(1.0)), grid.Karras(sigma_max=400.0)(process, 600)
    found = march(Heun(), process, guided(process, when=NoiseInterval(low, high)), taus, x).ravel() ** 2
    once = (1 + low**2) / (1 + high**2) * (2 + high**2) / (2 + low**2)
    np.testing.assert_allclose(found, once ** (SCALES - 1), rtol=1e-2)


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
