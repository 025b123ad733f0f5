"""Conditions: presence, nulls and dropout."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.core.module import cast
from diorama.diffusion import DenoiserConfig
from diorama.net import Conditions, LowResolutionConfig, Signal, TextConfig, null
from diorama.net.condition import LabelConfig, aligned, noised
from tests.net.tiny import CHANNELS, LABEL, TEXT, UNET, latents, made

WIDTH = 8
BATCH = {
    "text": jnp.array([[5, 6, 0, 0, 0], [0, 0, 0, 0, 0], [7, 8, 9, 10, 11]]),
    "label": jnp.array([2, 3, -1]),
    "id": jnp.arange(3, dtype=jnp.uint32),
}
RUN = jax.jit(lambda conditions, signals: conditions(signals))


@pytest.fixture(scope="module")
def conditions():
    return made(lambda key: Conditions.init(key, {"text": TEXT, "label": LABEL}, WIDTH))


@pytest.fixture(scope="module")
def signals(conditions):
    return conditions.signals(BATCH)


@pytest.fixture(scope="module")
def context(conditions, signals):
    return RUN(conditions, signals)


def same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), a, b)


def test_an_empty_text_and_a_label_below_zero_are_absent(signals, context):
    assert signals["text"].present.tolist() == [True, False, True]
    assert signals["label"].present.tolist() == [True, True, False]
    assert context.broadcast.shape == (3, WIDTH)
    assert context.tokens.shape == (3, 5, WIDTH)
    assert context.mask.sum(1).tolist() == [2, 0, 5]


def test_null_is_what_an_absent_signal_gives(conditions, signals):
    absent = conditions.signals(BATCH | {"text": 0 * BATCH["text"], "label": jnp.full(3, -1)})
    silent, nothing = RUN(conditions, null(signals)), RUN(conditions, absent)
    np.testing.assert_allclose(silent.broadcast, nothing.broadcast, atol=1e-6)
    assert not silent.mask.any()
    assert not nothing.mask.any()
    text, label = conditions.embedders["text"], conditions.embedders["label"]
    same(silent.broadcast, jnp.broadcast_to(text.null + label.table[-1], (3, WIDTH)))


def test_dropping_all_is_null_and_dropping_none_is_all(conditions, signals):
    ids = BATCH["id"]
    for share, want in ((1.0, null(signals)), (0.0, signals)):
        configs = {"text": TextConfig(dropout=share), "label": LabelConfig(dropout=share)}
        dropped = Conditions.init(jax.random.key(0), configs, WIDTH).drop(signals, jax.random.key(1), ids)
        same(dropped, want)


def test_dropout_is_each_signals_and_each_examples_own(conditions):
    ids = jnp.arange(4000, dtype=jnp.uint32)
    everything = {n: Signal(jnp.ones((4000, 5), int), jnp.ones(4000, bool)) for n in ("text", "label")}
    drop = jax.jit(lambda c, ids: c.drop({n: Signal(s.value[: len(ids)], s.present[: len(ids)])
                                          for n, s in everything.items()}, jax.random.key(1), ids))  # fmt: skip
    kept = {n: np.asarray(s.present) for n, s in drop(conditions, ids).items()}
    for present in kept.values():
        assert (~present).mean() == pytest.approx(0.1, abs=0.02)
    both = (~kept["text"] & ~kept["label"]).mean()
    assert both == pytest.approx(0.01, abs=0.006)
    alone = drop(conditions, ids[17:18])
    assert all(alone[n].present[0] == kept[n][17] for n in kept)


def test_examples_do_not_see_each_other(conditions, signals, context):
    same(RUN(conditions, jax.tree.map(lambda x: x[::-1], signals)), jax.tree.map(lambda x: x[::-1], context))


def test_padding_is_never_seen(conditions, signals, context):
    """Other embeddings of padding change neither the mean nor any token that is read."""
    text = conditions.embedders["text"]
    marked = type(text)(text.table.at[0].set(9.0), text.position, text.blocks, text.norm, text.null)
    other = RUN(Conditions(conditions.embedders | {"text": marked}, conditions.dropout), signals)
    np.testing.assert_array_equal(other.broadcast, context.broadcast)
    np.testing.assert_array_equal(other.tokens[context.mask], context.tokens[context.mask])


def test_the_value_of_an_absent_signal_is_never_seen(conditions, signals):
    silent = null(signals)
    other = {"text": Signal(silent["text"].value + 3, silent["text"].present),
             "label": Signal(0 * silent["label"].value, silent["label"].present)}  # fmt: skip
    a, b = RUN(conditions, silent), RUN(conditions, other)
    np.testing.assert_array_equal(a.broadcast, b.broadcast)
    np.testing.assert_array_equal(a.mask, b.mask)


def test_words_and_their_order_count(conditions, signals, context):
    order = BATCH["text"].at[2].set(BATCH["text"][2, ::-1])
    other = RUN(conditions, signals | {"text": Signal(order, signals["text"].present)})
    assert np.abs(other.broadcast - context.broadcast)[2].max() > 1e-4
    np.testing.assert_array_equal(other.broadcast[:2], context.broadcast[:2])


def test_no_conditions_at_all():
    none = Conditions.init(jax.random.key(0), {}, WIDTH)
    context = none(none.signals(BATCH))
    assert (context.broadcast, context.tokens, context.mask, context.aligned) == (None,) * 4
    assert none.drop({}, jax.random.key(0), BATCH["id"]) == {}


def test_bfloat16(conditions, signals, context):
    low = RUN(cast(conditions, jnp.bfloat16), signals)
    assert low.broadcast.dtype == low.tokens.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(low.broadcast), context.broadcast, atol=0.1)


def test_a_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(UserError, match="257 or more"):
        TextConfig(vocabulary=256)
    with pytest.raises(UserError, match="heads"):
        TextConfig(heads=3).init(jax.random.key(0), WIDTH)


LOW = {"low": LowResolutionConfig(space=2, time=2, augmentation=1.0, dropout=0.3), "label": LABEL}
IDS = jnp.arange(3, dtype=jnp.uint32)


def low_value(level=0.0, seed=2):
    """Latents of three frames, the first and last of them known."""
    x = np.random.default_rng(seed).normal(size=(3, 3, 4, 4, CHANNELS))
    known = np.broadcast_to(np.array([1.0, 0, 1])[:, None, None, None], (3, 3, 4, 4, 1))
    return jnp.asarray(np.concatenate([x, known, np.full_like(known, level)], axis=-1), jnp.float32)


@pytest.fixture(scope="module")
def lower():
    return made(lambda key: Conditions.init(key, LOW, WIDTH, CHANNELS))


def test_a_low_resolution_comes_in_aligned_with_its_level_for_all(lower):
    batch = {"low": low_value().at[1].set(0.0), "label": jnp.array([1, 2, -1])}
    signals = lower.signals(batch)
    assert signals["low"].present.tolist() == [True, False, True]
    context = RUN(lower, signals)
    assert context.aligned.shape == (3, 3, 4, 4, aligned(LOW, CHANNELS)) == (3, 3, 4, 4, CHANNELS + 1)
    assert np.ptp(np.asarray(context.aligned[1]), axis=(0, 1, 2)).max() == 0  # the null, everywhere
    unseen = batch | {"low": low_value(0.7, seed=3)}
    absent = signals | {"low": Signal(unseen["low"], jnp.array([True, False, True]))}
    other = RUN(lower, absent)
    np.testing.assert_array_equal(other.aligned[1], context.aligned[1])
    np.testing.assert_array_equal(other.broadcast[1], context.broadcast[1])
    assert np.abs(other.broadcast - context.broadcast)[0].max() > 1e-4  # the level is heard


def test_a_new_low_resolution_changes_nothing_at_first():
    config = DenoiserConfig(UNET, {"label": LABEL})
    plain = made(lambda key: config.init(key, CHANNELS))
    fresh = Conditions.init(jax.random.key(0), LOW, UNET.width, CHANNELS)
    grown = made(lambda key: replace(config, conditions=LOW).init(key, CHANNELS), seed=3)
    first = plain.net.enter.weight
    wide = grown.net.enter.weight.at[:, :, : first.shape[2]].set(first)  # what is aligned comes last
    enter = replace(plain.net.enter, weight=wide)
    grown = replace(
        grown,
        net=replace(plain.net, enter=enter),
        conditions=replace(fresh, embedders=fresh.embedders | plain.conditions.embedders),
    )
    x, tau, label = latents(3), jnp.array([0.2, 0.5, 0.9]), {"label": jnp.array([1, 2, -1])}
    ask = jax.jit(lambda model, batch: model(x, tau, model.conditions.signals(batch)).x0)
    before = ask(plain, label)
    for level in (0.0, 0.4):
        np.testing.assert_allclose(ask(grown, label | {"low": low_value(level)}), before, atol=1e-6)


def test_noise_at_level_0_is_none_and_at_1_everything():
    key, full = jax.random.key(5), jnp.ones(3)
    np.testing.assert_array_equal(noised(low_value(), 0 * full, key, IDS), low_value())
    one, other = (noised(low_value(seed=seed), full, key, IDS) for seed in (2, 3))
    np.testing.assert_array_equal(one, other)  # not a trace of the clip
    half = np.asarray(noised(jnp.tile(low_value(), (50, 1, 1, 1, 1)), jnp.full(150, 0.5), key, jnp.arange(150)))
    assert half[..., :CHANNELS].std() == pytest.approx(1, abs=0.05)
    assert (half[..., -1] == 0.5).all()
    np.testing.assert_array_equal(half[..., -2], np.tile(low_value()[..., -2], (50, 1, 1, 1)))


def test_training_noises_each_example_by_its_id(lower):
    many, key = 400, jax.random.key(1)
    value, ids = jnp.tile(low_value()[:1], (many, 1, 1, 1, 1)), jnp.arange(many, dtype=jnp.uint32)
    drop = jax.jit(lambda ids, value: lower.drop({"low": Signal(value, jnp.ones(len(ids), bool))}, key, ids)["low"])
    seen = drop(ids, value)
    level = np.asarray(seen.value[:, 0, 0, 0, -1])
    assert level.min() < 0.02
    assert level.max() > 0.98
    assert level.mean() == pytest.approx(0.5, abs=0.05)
    assert 1 - np.asarray(seen.present).mean() == pytest.approx(0.3, abs=0.07)
    order = np.array([17, 3])
    alone = drop(ids[order], value[:2])
    np.testing.assert_allclose(alone.value, seen.value[order], atol=1e-6)
    np.testing.assert_array_equal(alone.present, seen.present[order])


def test_guidance_leaves_the_low_resolution_to_both_sides(lower):
    signals = lower.signals({"low": low_value(), "label": jnp.array([1, 2, 3])})
    silent = lower.silent(signals)
    assert silent["low"] is signals["low"]
    assert not silent["label"].present.any()
    assert lower.silent({"low": signals["low"]}) is None
    assert lower.silent({}) is None


def test_settings_of_a_low_resolution_that_cannot_be():
    with pytest.raises(UserError, match=r"augmentation lies in"):
        LowResolutionConfig(augmentation=1.5)
    with pytest.raises(UserError, match="twice"):
        DenoiserConfig(UNET, {"a": LowResolutionConfig(), "b": LowResolutionConfig()})
