"""The transformer's options, each held to what it promises."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.core.module import count, paths
from diorama.net import TransformerConfig
from diorama.net.condition import Context
from diorama.net.head import HeadConfig
from diorama.net.places import Places, Reach
from tests.net.tiny import CHANNELS, TRANSFORMER, latents, net_of

X = latents(t=4)
LEVEL = jnp.asarray([[0.1, 0.5, 0.9, 0.3], [0.3, 0.3, 0.3, 0.3]])
MASK = jnp.asarray([[True, True, False], [True, False, False]])
CONTEXT = Context(jax.random.normal(jax.random.key(2), (2, 16)), jax.random.normal(jax.random.key(3), (2, 3, 16)), MASK)
SPACE_TIME = (Reach(past=0, future=0), Reach(rows=0, columns=0))
CAUSAL = (Reach(past=0, future=0), Reach(future=0, rows=0, columns=0))
PLAIN = replace(TRANSFORMER, mixing=False, previous=False)
VARIANTS = {
    "shared": replace(TRANSFORMER, modulation="shared"),
    "swiglu": replace(TRANSFORMER, activation="swiglu"),
    "joint": replace(TRANSFORMER, text="joint"),
    "registers": replace(TRANSFORMER, registers=3),
    "space and time": replace(TRANSFORMER, reach=SPACE_TIME),
    "skip": replace(TRANSFORMER, depth=4, reach=SPACE_TIME, skip=True),
    "patch": replace(TRANSFORMER, patch=(2, 1, 2)),
    "head": replace(TRANSFORMER, head=HeadConfig(width=24, depth=2)),
    "causal, joint": replace(TRANSFORMER, text="joint", registers=2, reach=CAUSAL, modulation="shared"),
}
RUN = jax.jit(lambda net, x, level, context: net(x, level, context))


@pytest.fixture(scope="module", params=list(VARIANTS))
def net(request):
    return net_of(VARIANTS[request.param])


def test_every_variant_uses_all_it_has(net):
    """Each parameter counts, text that is masked does not, and an example does not see its company."""
    gradient = jax.jit(jax.grad(lambda n: jnp.sum(n(X, LEVEL, CONTEXT).value ** 2)))(net)
    still = [name for name, g in paths(gradient).items() if not np.any(g) or not np.isfinite(g).all()]
    last = f"blocks.{len(net.blocks) - 1}.beside."
    # what the last block makes of text nobody reads any more; and text is asked for nothing where it asks nobody
    silent = [n for n in still if not n.startswith(last)]
    assert silent == []
    value = RUN(net, X, LEVEL, CONTEXT).value
    assert value.shape == X.shape
    tokens = CONTEXT.tokens.at[0, 2].set(1e3)
    np.testing.assert_allclose(RUN(net, X, LEVEL, replace_tokens(tokens)).value, value, atol=1e-6)
    assert np.abs(RUN(net, X, LEVEL, replace_tokens(CONTEXT.tokens + 1)).value - value).max() > 1e-3
    other = RUN(net, X.at[1].add(1), LEVEL, CONTEXT).value
    np.testing.assert_allclose(other[0], value[0], atol=1e-6)


def replace_tokens(tokens):
    return Context(CONTEXT.broadcast, tokens, MASK)


def test_every_variant_starts_as_the_identity(net):
    fresh = net.config.init(jax.random.key(0), CHANNELS)
    assert not np.any(RUN(fresh, X, LEVEL, CONTEXT).value)
    features = RUN(fresh, X, LEVEL, CONTEXT).intermediates["blocks"]
    np.testing.assert_array_equal(features[0], features[-1])


def test_space_and_time_in_turn_is_the_same_as_masks():
    """Folding saves work and changes nothing: with places given, the same layers go by masks."""
    net = net_of(replace(PLAIN, patch=(1, 1, 1), reach=SPACE_TIME))
    b, t, h, w, c = X.shape
    packed = X.reshape(b, t * h * w, 1, 1, c)
    level = jnp.repeat(LEVEL, h * w, axis=1)
    context = Context(CONTEXT.broadcast, CONTEXT.tokens, MASK, places=Places.grid(t, h, w))
    found = RUN(net, packed, level, context).value.reshape(X.shape)
    np.testing.assert_allclose(found, RUN(net, X, LEVEL, CONTEXT).value, atol=1e-5)


def test_a_pack_is_each_of_its_clips():
    """Clips of several sizes in one row come out as they do alone (NaViT)."""
    for text in ("cross", "joint"):
        net = net_of(replace(PLAIN, patch=(1, 1, 1), text=text))
        clips = [latents(1, 2, 3, 2)[0], latents(1, 1, 2, 4)[0]]
        levels, said = [jnp.asarray([0.2, 0.8]), jnp.asarray([0.5])], CONTEXT.tokens[:2, :2]
        alone = [
            RUN(net, x[None], level[None], Context(said[i : i + 1].mean(1), said[i : i + 1], jnp.ones((1, 2), bool)))
            for i, (x, level) in enumerate(zip(clips, levels, strict=True))
        ]
        sizes, n = [12, 8], 23  # three tokens are padding
        places = [Places.grid(*x.shape[:3]).position[0] for x in clips]
        segment = jnp.asarray([[0] * sizes[0] + [1] * sizes[1] + [-1] * 3])

        def row(parts, n=n):
            whole = jnp.concatenate(parts)
            return jnp.pad(whole, [(0, n - len(whole))] + [(0, 0)] * (whole.ndim - 1))[None]

        context = Context(
            broadcast=row([jnp.broadcast_to(said[i].mean(0), (size, 16)) for i, size in enumerate(sizes)]),
            tokens=said.reshape(1, 4, 16), mask=jnp.ones((1, 4), bool), segment=jnp.asarray([[0, 0, 1, 1]]),
            places=Places(row(places), segment),
        )  # fmt: skip
        x = row([c.reshape(-1, CHANNELS) for c in clips])[:, :, None, None]
        level = row([jnp.repeat(lv, s // len(lv)) for lv, s in zip(levels, sizes, strict=True)])
        found = RUN(net, x, level, context).value[0, :, 0, 0]
        np.testing.assert_allclose(found[:12].reshape(clips[0].shape), alone[0].value[0], atol=1e-5)
        np.testing.assert_allclose(found[12:20].reshape(clips[1].shape), alone[1].value[0], atol=1e-5)


@pytest.mark.parametrize("name", ["causal, joint", "head"])
def test_causal_whatever_else(name):
    config = VARIANTS[name]
    net = net_of(config if name != "head" else replace(config, reach=(Reach(future=0),)))
    value = np.asarray(RUN(net, X, LEVEL, CONTEXT).value)
    for x, level in ((X.at[:, 2:].add(1), LEVEL), (X, LEVEL.at[:, 2:].add(0.1))):
        after = np.asarray(RUN(net, x, level, CONTEXT).value)
        np.testing.assert_allclose(after[:, :2], value[:, :2], atol=1e-6)
        assert np.abs(after - value)[:, 2:].max() > 1e-3


def test_the_ways_of_attention_agree():
    plain, pieces = (net_of(replace(TRANSFORMER, attention=way)) for way in ("xla", "chunked"))
    np.testing.assert_allclose(RUN(pieces, X, LEVEL, CONTEXT).value, RUN(plain, X, LEVEL, CONTEXT).value, atol=1e-5)


@pytest.mark.parametrize("name", ["skip", "joint"])
def test_forward_mode_is_the_transpose_of_reverse_mode(name):
    net = net_of(VARIANTS[name])
    rng = np.random.default_rng(0)
    along = tuple(jnp.asarray(rng.normal(size=a.shape), jnp.float32) for a in (X, LEVEL))
    back = jnp.asarray(rng.normal(size=X.shape), jnp.float32)

    @jax.jit
    def both(x, level):
        run = lambda x, level: net(x, level, CONTEXT).value  # noqa: E731
        _, forward = jax.jvp(run, (x, level), along)
        reverse = jax.vjp(run, x, level)[1](back)
        return jnp.vdot(forward, back), sum(jnp.vdot(a, r) for a, r in zip(along, reverse, strict=True))

    forward, reverse = both(X, LEVEL)
    assert float(forward) == pytest.approx(float(reverse), rel=1e-4)


def test_modulation_shared_and_swiglu_save_what_they_say():
    sizes = {
        name: count(jax.eval_shape(lambda c=config: c.init(jax.random.key(0), CHANNELS)))
        for name, config in {
            "own": TransformerConfig(),
            "shared": TransformerConfig(modulation="shared"),
            "swiglu": TransformerConfig(activation="swiglu"),
        }.items()
    }
    assert 0.7 < sizes["shared"] / sizes["own"] < 0.8
    assert abs(sizes["swiglu"] / sizes["own"] - 1) < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 3, "reach": SPACE_TIME}, "3 blocks do not divide into 2 parts"),
        ({"depth": 2, "reach": SPACE_TIME, "skip": True}, "in two halves"),
        ({"patch": (1, 0, 1)}, "net.patch has a size of at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        replace(TRANSFORMER, **change)


def test_what_a_network_cannot_take_is_refused():
    net = net_of(TRANSFORMER)
    with pytest.raises(UserError, match=r"net.mixing=false"):
        RUN(net, X, LEVEL, Context(places=Places.grid(4, 4, 4)))
    with pytest.raises(UserError, match=r"set net.text to cross or joint"):
        RUN(net_of(replace(TRANSFORMER, text="none")), X, LEVEL, CONTEXT)
    with pytest.raises(UserError, match=r"net.head.width is 20"):
        replace(TRANSFORMER, head=HeadConfig(width=20)).init(jax.random.key(0), CHANNELS)
