"""The U-Net's own promises: attention at levels, factorised in space and time, and what the backward pass keeps."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.core.module import from_paths, paths
from diorama.net import MagnitudeUNetConfig, UNetConfig
from diorama.net.condition import Context
from diorama.net.places import Places
from diorama.net.unet import Attend, block_sizes
from tests.net.tiny import CHANNELS, UNET, latents, made

CONFIG = replace(UNET, attention=(1,), middle="factorised")


def test_sizes_of_blocks():
    down, up = block_sizes((8, 16), 2)
    assert down == [(0, [(8, 8), (8, 8)]), (1, [(8, 16), (16, 16)])]
    assert up == [(1, [(32, 16), (32, 8)]), (0, [(16, 8), (16, 8)])]


@pytest.mark.parametrize("kind", [UNetConfig, MagnitudeUNetConfig])
def test_attention_is_where_it_was_asked_for(kind):
    def found(**settings):
        config = kind(widths=(8, 16), depth=2, heads=2, width=16, **settings)
        return jax.eval_shape(lambda: config.init(jax.random.key(0), CHANNELS))

    plain, asked = found(), found(attention=(1,))
    assert plain.attentions == 1
    assert asked.attentions == 5  # two blocks on each side, and the middle
    assert {p.split(".attend")[0] for p in set(paths(asked)) - set(paths(plain))} == {
        "down.1.0", "down.1.1", "up.0.0", "up.0.1",
    }  # fmt: skip
    assert plain.middle.time is None
    assert found(middle="factorised").middle.time is not None
    with pytest.raises(UserError, match="levels of 2 widths are 0 to 1"):
        kind(widths=(8, 16), attention=(2,))
    with pytest.raises(UserError, match="heads do not divide a width"):
        kind(widths=(10, 16), heads=4, attention=(0,))


X = jax.random.normal(jax.random.key(1), (2, 3, 2, 2, 16))


def attend(causal=False):
    return made(lambda key: Attend.init(key, 16, True, replace(CONFIG, causal=causal)))


def test_frames_meet_along_time_only_and_places_within_frames():
    """What one cell changes: its own frame, and then in the other frames all places that have seen it."""
    call = jax.jit(lambda a, x: a(x, Context(), None))
    layer = attend()
    alone = replace(layer, time=replace(layer.time, out=jax.tree.map(jnp.zeros_like, layer.time.out)))
    for a, others in ((layer, True), (alone, False)):
        difference = np.abs(call(a, X.at[0, 1, 0, 1].add(1)) - call(a, X)).max((-1, -2, -3))
        assert difference[0, 1] > 1e-3
        assert not difference[1].any()
        assert (difference[0, [0, 2]] > 0).all() == others
    still = call(alone, X[:, 1:2])
    np.testing.assert_allclose(call(alone, X)[:, 1:2], still, atol=1e-5)


def test_a_still_is_the_first_frame_of_a_causal_clip_and_sees_its_own_value():
    layer = attend(causal=True)
    clip, still = layer(X, Context(), None), layer(X[:, :1], Context(), None)
    np.testing.assert_allclose(clip[:, :1], still, atol=1e-5)
    cells = X[:, :1].reshape(2, 4, 16)
    every = jnp.ones(2, bool)  # along time a still is its own value, whether or not it is told to be alone
    where = jnp.zeros((1, 3))
    one = cells.reshape(8, 1, 16)
    np.testing.assert_allclose(layer.time(one, where), layer.time(one, where, None, jnp.repeat(every, 4)), atol=1e-6)


def test_what_is_recomputed_changes_no_gradient_and_is_not_kept():
    x, level = latents(), jnp.full((2, 3), 0.5)
    net = made(lambda key: UNET.init(key, CHANNELS))

    def loss(net):
        return jnp.mean(net(x, level, Context()).value ** 2)

    gradients, kept = {}, {}
    for remat in ("none", "dots", "full"):
        this = replace(net, remat=remat)
        gradients[remat] = paths(jax.jit(jax.grad(loss))(this))
        backward = jax.eval_shape(lambda net: jax.vjp(loss, net)[1], this)  # its leaves are what it keeps
        kept[remat] = sum(leaf.size for leaf in jax.tree.leaves(backward))
    for name, gradient in gradients["none"].items():
        for remat in ("dots", "full"):
            np.testing.assert_allclose(gradients[remat][name], gradient, rtol=2e-4, atol=2e-5, err_msg=name)
    assert kept["full"] < kept["dots"] < kept["none"]


def test_frames_have_broadcasts_of_their_own():
    net = made(lambda key: UNET.init(key, CHANNELS))
    x, level, said = latents(), jnp.full((2, 3), 0.5), jax.random.normal(jax.random.key(3), (2, 16))
    run = jax.jit(lambda said: net(x, level, Context(broadcast=said)).value)
    np.testing.assert_allclose(run(jnp.repeat(said[:, None], 3, axis=1)), run(said), atol=1e-5)


@pytest.mark.parametrize("kind", [UNetConfig, MagnitudeUNetConfig])
def test_packs_are_refused(kind):
    net = kind(widths=(8,), heads=2, width=8).init(jax.random.key(0), CHANNELS)
    with pytest.raises(UserError, match="whole clips only"):
        net(latents(), jnp.full((2, 3), 0.5), Context(places=Places.grid(3, 4, 4)))


def test_networks_saved_before_attention_at_levels_are_read():
    net = jax.eval_shape(lambda: UNET.init(jax.random.key(0), CHANNELS))
    arrays = {name: np.zeros(x.shape, np.float32) for name, x in paths(net).items()}
    assert not any("attend" in name or "time.enter" in name for name in arrays)
    from_paths(net, arrays)
