"""Both networks, held to the same promises."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.core.module import Policy, cast, paths
from diorama.net.condition import Context
from diorama.net.places import Reach
from tests.net.tiny import NETS, TRANSFORMER, latents, net_of

X = latents()
LEVEL = jnp.array([[0.1, 0.5, 0.9], [0.3, 0.3, 0.3]])
WIDTH = 16
MASK = jnp.array([[True, True, False], [False, False, False]])
CONTEXT = Context(
    jax.random.normal(jax.random.key(2), (2, WIDTH)), jax.random.normal(jax.random.key(3), (2, 3, WIDTH)), MASK
)
RUN = jax.jit(lambda net, x, level, context: net(x, level, context))


@pytest.fixture(scope="module", params=list(NETS))
def config(request):
    return NETS[request.param]


@pytest.fixture(scope="module")
def net(config):
    return net_of(config)


@pytest.fixture(scope="module")
def causal(config):
    return net_of(replace(config, reach=(Reach(future=0),)) if config is TRANSFORMER else replace(config, causal=True))


@pytest.fixture(scope="module")
def value(net):
    return np.asarray(RUN(net, X, LEVEL, CONTEXT).value)


def test_starts_at_zero(config, value):
    assert value.shape == X.shape
    assert np.abs(value).min() > 0
    assert not np.any(
        RUN(jax.jit(lambda key: config.init(key, X.shape[-1]))(jax.random.key(0)), X, LEVEL, CONTEXT).value
    )


def test_an_example_does_not_see_its_company(net, value):
    context = jax.tree.map(lambda c: c[::-1], CONTEXT)
    np.testing.assert_allclose(RUN(net, X[::-1], LEVEL[::-1], context).value[::-1], value, atol=2e-6)
    changed = RUN(net, X.at[1].add(1), LEVEL.at[1].add(0.1), CONTEXT).value
    np.testing.assert_array_equal(changed[0], value[0])
    assert np.abs(changed[1] - value[1]).max() > 1e-3


def test_both_ways_in_time_by_default(net, value):
    for x, level in ((X.at[:, 2].add(1), LEVEL), (X, LEVEL.at[:, 2].add(0.1))):
        difference = np.abs(RUN(net, x, level, CONTEXT).value - value)
        assert difference[:, 2].max() > 1e-3
        assert difference[:, 1].max() > 1e-5


def test_causal_frames_do_not_see_later_ones(causal):
    value = np.asarray(RUN(causal, X, LEVEL, CONTEXT).value)
    for frame in (1, 2):
        for x, level in ((X.at[:, frame:].add(1), LEVEL), (X, LEVEL.at[:, frame:].add(0.1))):
            after = np.asarray(RUN(causal, x, level, CONTEXT).value)
            np.testing.assert_array_equal(after[:, :frame], value[:, :frame])
            assert np.abs(after - value)[:, frame:].min(axis=(0, 2, 3, 4)).max() > 0
    early = np.abs(RUN(causal, X.at[:, 0].add(1), LEVEL, CONTEXT).value - value)
    assert early[:, 2].max() > 1e-5  # the past is seen
    alone = RUN(causal, X[:, :1], LEVEL[:, :1], CONTEXT).value
    np.testing.assert_allclose(alone, value[:, :1], atol=2e-6)  # an image is a video of one frame


def test_masked_tokens_never_count(net, value):
    tokens = CONTEXT.tokens.at[0, 2].set(100.0).at[1].set(-100.0)
    np.testing.assert_array_equal(RUN(net, X, LEVEL, Context(CONTEXT.broadcast, tokens, MASK)).value, value)
    seen = RUN(net, X, LEVEL, Context(CONTEXT.broadcast, CONTEXT.tokens.at[0, 1].add(1.0), MASK)).value
    assert np.abs(seen - value)[0].max() > 1e-5


def test_the_broadcast_counts(net, value):
    other = RUN(net, X, LEVEL, Context(CONTEXT.broadcast + 1, CONTEXT.tokens, MASK)).value
    assert np.abs(other - value).max(axis=(1, 2, 3, 4)).min() > 1e-3


def test_unconditional_and_aligned(config):
    net = net_of(config, aligned=1)
    aligned = jnp.ones((*X.shape[:-1], 1))
    with_ones, with_zeros = (RUN(net, X, LEVEL, Context(aligned=a)).value for a in (aligned, 0 * aligned))
    assert with_ones.shape == X.shape
    assert np.abs(with_ones - with_zeros).max() > 1e-3


def test_computes_in_bfloat16_and_stays_near(net, value):
    low = Policy("bfloat16").enter(net)
    out = RUN(low, jnp.bfloat16(X), LEVEL, cast(CONTEXT, jnp.bfloat16))
    assert {x.dtype for x in jax.tree.leaves(out)} == {jnp.dtype(jnp.bfloat16)}  # nothing fell back to float32
    error = np.asarray(out.value, np.float32) - value
    assert np.sqrt(np.mean(error**2)) < 0.03 * value.std()


def test_every_parameter_learns(net):
    gradient = jax.jit(jax.grad(lambda n: jnp.sum(n(X, LEVEL, CONTEXT).value ** 2)))(net)
    still = [name for name, g in paths(gradient).items() if not np.any(g) or not np.isfinite(g).all()]
    assert still == []


def test_intermediates(config, net):
    features = RUN(net, X, LEVEL, CONTEXT).intermediates
    if config is not TRANSFORMER:
        assert [f.shape for f in features["levels"]] == [(2, 3, 4, 4, 8), (2, 3, 2, 2, 16)]
    else:
        assert features["blocks"].shape == (2, 2, 3, 2, 2, 16)


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_what_a_transformer_recomputes_does_not_change_its_gradient(remat):
    def gradient(config):
        net = net_of(config)
        return jax.jit(jax.grad(lambda n: jnp.mean(n(X, LEVEL, CONTEXT).value ** 2)))(net)

    straight, again = gradient(TRANSFORMER), gradient(replace(TRANSFORMER, remat=remat))
    for name, g in paths(again).items():
        np.testing.assert_allclose(g, paths(straight)[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_sides_that_do_not_divide_are_named(net):
    with pytest.raises(UserError, match="latents of 4x5"):
        RUN(net, latents(w=5), LEVEL, CONTEXT)
