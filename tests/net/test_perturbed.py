"""Perturbed attention: each token sees itself alone, in some layers of some examples, and all else stays as it was."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.net import Perturbed
from diorama.net.attention import SelfAttention, by_head
from diorama.net.condition import Conditions, Context
from diorama.net.places import grid_positions
from tests.net.tiny import LABEL, NETS, latents, net_of

X, LEVEL = latents(), jnp.asarray([[0.2, 0.5, 0.9]] * 2)


@pytest.fixture(scope="module")
def attention():
    k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
    made = SelfAttention.init(k1, 24, 2)
    return replace(made, out=type(made.out).init(k2, 24, 24)), jax.random.normal(k3, (2, 6, 24))


def test_alone_is_the_identity_on_values(attention):
    layer, x = attention
    positions = grid_positions(1, 2, 3)
    values = by_head(layer.enter(x), layer.heads, 3)[2].reshape(x.shape)
    found = layer(x, positions, alone=jnp.asarray([True, False]))
    np.testing.assert_allclose(found[0], layer.out(values)[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], layer(x, positions)[1])


@pytest.mark.parametrize("kind", NETS)
def test_examples_and_layers_are_perturbed_one_by_one(kind):
    net = net_of(NETS[kind])
    run = jax.jit(lambda alone: net(X, LEVEL, Context(alone=alone)).value)
    plain, none = jax.jit(lambda: net(X, LEVEL, Context()).value)(), jnp.zeros((2, net.attentions), bool)
    np.testing.assert_allclose(run(none), plain, rtol=1e-5, atol=1e-5)
    seen = [plain[0]]
    for layer in range(net.attentions):
        found = run(none.at[0, layer].set(True))
        np.testing.assert_allclose(found[1], plain[1], rtol=1e-5, atol=1e-5)
        assert all(float(jnp.abs(found[0] - other).max()) > 1e-3 for other in seen)
        seen.append(found[0])


def test_signals_go_on_as_they_were():
    conditions = Conditions.init(jax.random.key(0), {"label": LABEL}, 8)
    signals = conditions.signals({"label": jnp.asarray([1, -1])})
    alone = jnp.asarray([[True], [False]])
    plain, context = conditions(signals), conditions(Perturbed(signals, alone))
    np.testing.assert_array_equal(context.broadcast, plain.broadcast)
    np.testing.assert_array_equal(context.alone, alone)
    assert plain.alone is None
