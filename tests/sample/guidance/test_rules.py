"""Rules against their definitions, and against what they become at the ends of their settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.process import EDM, Prediction
from diorama.sample.guidance import (
    APG,
    MAMBO,
    CFGZero,
    ClassifierFree,
    Cosine,
    FrequencyDecoupled,
    Interval,
    NoiseInterval,
    Ramp,
    Rescaled,
    Several,
    Tangential,
    Weight,
)
from diorama.sample.guidance.guidance import flow, inner
from tests.sample.guidance.laws import FLOW, ONES, TAU, TWO, X, counting, same, tilting

DENOISER = tilting()
STRONG, WEAK = DENOISER(X, TAU, ONES), DENOISER(X, TAU, TWO)
SPACE = (-3, -2, -1)


def led(rule):
    return rule.scaled(3.0)(DENOISER, FLOW, TWO)(X, TAU, ONES)


@pytest.mark.parametrize(
    "rule",
    [Rescaled(phi=0.0), APG(eta=1.0), FrequencyDecoupled(coarse=1.0), MAMBO(damping=0.0), Several()],
    ids=lambda r: type(r).__name__,
)
def test_at_one_end_a_rule_is_the_plain_one(rule):
    same(led(rule), led(ClassifierFree()), rtol=1e-4, atol=1e-5)


def test_rescaled_x0_has_the_spread_of_the_strong_one():
    found = led(Rescaled(phi=1.0))
    np.testing.assert_allclose(found.x0.std(SPACE), STRONG.x0.std(SPACE), rtol=1e-5)
    assert not np.allclose(led(ClassifierFree()).x0.std(SPACE), STRONG.x0.std(SPACE), rtol=0.05)


def test_apg_adds_nothing_along_x0_and_no_more_than_its_limit():
    added = led(APG()).x0 - STRONG.x0
    size = jnp.sqrt(inner(added, added) * inner(STRONG.x0, STRONG.x0))
    np.testing.assert_allclose(inner(added, STRONG.x0) / size, 0, atol=1e-5)
    clipped = led(APG(eta=1.0, limit=0.01)).x0 - STRONG.x0
    np.testing.assert_allclose(jnp.sqrt(jnp.square(clipped).mean(SPACE)), 2 * 0.01, rtol=1e-4)


def test_cfg_zero_scales_the_weak_flow_to_be_nearest():
    """What is added is orthogonal to the weak flow: least squares."""
    added = flow(led(CFGZero(zero=0.0))) - flow(STRONG)
    size = jnp.sqrt(inner(added, added) * inner(flow(WEAK), flow(WEAK)))
    np.testing.assert_allclose(inner(added, flow(WEAK)) / size, 0, atol=1e-5)


def test_cfg_zero_rests_at_the_start():
    tau = jnp.asarray([[1.0, 0.97, 0.95]] * 4)
    found = CFGZero(zero=0.04)(DENOISER, FLOW, TWO)(X, tau, ONES)
    for frame in (0, 1):
        np.testing.assert_allclose(found.x0[:, frame], X[:, frame], atol=1e-6)
        np.testing.assert_allclose(found.epsilon[:, frame], X[:, frame], atol=1e-6)
    assert float(jnp.abs(found.x0[:, 2] - X[:, 2]).max()) > 0.1


def test_what_rests_is_x_over_alpha_plus_sigma():
    """Along the flow of any process: there x0 = epsilon."""
    process, tau = EDM(), jnp.full((4, 3), 0.99)
    found, at = CFGZero(zero=0.04)(tilting(process), process, TWO)(X, tau, ONES), process.at(tau, 5)
    np.testing.assert_allclose(found.x0, X / (at.alpha + at.sigma), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.epsilon, found.x0, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: FrequencyDecoupled(factor=0), "factor=0"),
        (lambda: APG(limit=0.0), "limit=0.0"),
        (lambda: CFGZero(zero=1.5), "zero=1.5"),
        (lambda: CFGZero(zero=-0.1), "zero=-0.1"),
        (lambda: Several(weights=(Weight("text"), Weight("label"), Weight("text", 2.0))), "'text' more than once"),
    ],
)
def test_settings_without_a_meaning_are_refused(wrong, says):
    with pytest.raises(UserError, match=says):
        wrong()


def test_tangential_is_the_singular_value_decomposition():
    pair = jnp.stack([flow(STRONG), flow(WEAK)], 2).reshape(4, 3, 2, -1)
    _, _, rows = jnp.linalg.svd(pair, full_matrices=False)
    kept = (pair[:, :, 1:] @ rows[:, :, :1].mT @ rows[:, :, :1]).reshape(X.shape)
    expected = flow(STRONG) + 2.0 * (flow(STRONG) - kept)
    np.testing.assert_allclose(flow(led(Tangential())), expected, rtol=1e-4, atol=1e-5)


def test_bands_are_what_they_are_called():
    """A flat difference is coarse, one from cell to cell is fine, but at the edges."""
    checks = (-1.0) ** np.add.outer(np.arange(16), np.arange(16))[None, None, ..., None]
    none, rule, at = jnp.zeros((1, 1, 16, 16, 1)), FrequencyDecoupled(coarse=0.25), FLOW.at(0.5, 5)
    for pattern, share in ((np.ones_like(checks), 0.25), (checks, 1.0)):
        found = rule.combine(Prediction(none, none), Prediction(-pattern, none), jnp.asarray(2.0), at, jnp.asarray(0.5))
        inside = np.s_[:, :, 3:-3, 3:-3]
        np.testing.assert_allclose(found.x0[inside], 2.0 * share * pattern[inside], atol=1e-5)


def test_mambo_adds_less_where_the_two_differ_more():
    plain, held = (flow(led(rule)) - flow(STRONG) for rule in (ClassifierFree(), MAMBO(damping=8.0)))
    apart, weak = flow(STRONG) - flow(WEAK), flow(WEAK)
    ratio = jnp.linalg.norm(apart.reshape(4, 3, -1), axis=-1) / jnp.linalg.norm(weak.reshape(4, 3, -1), axis=-1)
    np.testing.assert_allclose(held, jnp.exp(-8 * ratio)[..., None, None, None] * plain, rtol=1e-3, atol=1e-5)


def both(x, tau, conditions):
    return DENOISER(x, tau, 1 + conditions["text"] + 10 * conditions["look"])


SIGNALS = {"text": ONES, "look": ONES}
SILENT = jax.tree.map(jnp.zeros_like, SIGNALS)


def test_signals_come_in_one_after_the_other():
    counted, batches = counting(both)
    weights = Weight("look", 0.5), Weight("text", 2.0)
    found = Several(3.0, weights=weights)(counted, FLOW, SILENT)(X, TAU, SIGNALS)
    jax.effects_barrier()
    assert batches == [12]
    none, look, all_ = (DENOISER(X, TAU, c * ONES) for c in (1, 11, 12))
    expected = jax.tree.map(lambda n, i, a: a + 2.0 * (0.5 * (i - n) + 2.0 * (a - i)), none, look, all_)
    same(found, expected, rtol=1e-4, atol=1e-4)


def test_signals_without_a_weight_come_last():
    found = Several(3.0, weights=(Weight("look", 0.5),))(both, FLOW, SILENT)(X, TAU, SIGNALS)
    expected = Several(3.0, weights=(Weight("look", 0.5), Weight("text", 1.0)))(both, FLOW, SILENT)(X, TAU, SIGNALS)
    same(found, expected, rtol=1e-5, atol=1e-5)


def test_signals_that_are_none_are_named():
    with pytest.raises(UserError, match="weighs 'sound', which is none of the signals text, look"):
        Several(weights=(Weight("sound"),))(both, FLOW, SILENT)(X, TAU, SIGNALS)
    with pytest.raises(UserError, match="and nothing else"):
        Several()(both, FLOW, DENOISER)(X, TAU, SIGNALS)


def test_schedules():
    tau = jnp.linspace(0, 1, 5)
    np.testing.assert_array_equal(Interval(0.25, 0.75)(FLOW, tau), [0, 0, 1, 1, 0])
    np.testing.assert_array_equal(NoiseInterval(1 / 3, 3.0)(FLOW, tau), [0, 0, 1, 1, 0])
    np.testing.assert_allclose(Ramp()(FLOW, tau), [2, 1.5, 1, 0.5, 0])
    np.testing.assert_allclose(Cosine(noise=0.5, data=1.5)(FLOW, tau)[jnp.asarray([0, 2, 4])], [1.5, 1, 0.5])
    with pytest.raises(UserError, match="low below high"):
        Interval(0.5, 0.5)
