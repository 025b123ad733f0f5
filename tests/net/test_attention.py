"""Attention: positions and rules are data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.net import TransformerConfig, UNetConfig
from diorama.net.attention import CrossAttention, SelfAttention, check_heads, frame_mask, rotary
from diorama.net.places import grid_positions

KEYS = jax.random.split(jax.random.key(0), 4)
WIDTH, HEADS = 24, 2
POSITIONS = grid_positions(2, 2, 3)
N = len(POSITIONS)
X = jax.random.normal(KEYS[0], (2, N, WIDTH))


@pytest.fixture(scope="module")
def attention():
    made = SelfAttention.init(KEYS[1], WIDTH, HEADS)
    return SelfAttention(made.enter, type(made.out).init(KEYS[2], WIDTH, WIDTH), HEADS)


RUN = jax.jit(lambda attention, x, positions, mask: attention(x, positions, mask))


def test_positions_follow_the_order_of_reshape():
    np.testing.assert_array_equal(np.asarray(POSITIONS).reshape(2, 2, 3, 3)[1, 0, 2], [1, 0, 2])


def test_rotary_keeps_lengths_and_sees_differences_only():
    q, k = jax.random.normal(KEYS[1], (2, 1, 1, 1, 14))

    def score(a, b):
        at = jnp.array([a], jnp.float32), jnp.array([b], jnp.float32)
        return float(jnp.sum(rotary(q, at[0]) * rotary(k, at[1])))

    assert score((0, 0, 0), (1, 2, 3)) == pytest.approx(score((5, 7, 9), (6, 9, 12)), abs=1e-4)
    assert score((0, 0, 0), (1, 0, 0)) != pytest.approx(score((0, 0, 0), (0, 1, 0)), abs=1e-2)
    turned = rotary(q, jnp.array([[3.0, 1, 4]]))
    assert float(jnp.linalg.norm(turned)) == pytest.approx(float(jnp.linalg.norm(q)), rel=1e-5)
    np.testing.assert_array_equal(rotary(q, jnp.zeros((1, 3))), q)
    assert not np.any(np.isclose(turned, q)[..., [0, 2, 4, 7, 9, 11]])  # fastest of each axis, both halves of its pair
    np.testing.assert_array_equal(turned[..., [6, 13]], q[..., [6, 13]])  # the seventh pair is left over


def test_self_attention_is_softmax_of_scores(attention):
    mask = frame_mask(POSITIONS, causal=True)
    q, k, v = np.moveaxis(np.asarray(attention.enter(X)).reshape(2, N, HEADS, 3, -1), 3, 0)
    q, k = (x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) for x in (q, k))
    q, k = (np.asarray(rotary(jnp.asarray(x), POSITIONS)) for x in (q, k))
    scores = np.einsum("bnke,bmke->bknm", q, k) / np.sqrt(q.shape[-1])
    scores = np.where(np.asarray(mask), scores, -np.inf)
    weight = np.exp(scores - scores.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    want = attention.out(np.einsum("bknm,bmke->bnke", weight, v).reshape(2, N, WIDTH))
    np.testing.assert_allclose(RUN(attention, X, POSITIONS, mask), want, atol=1e-5)


def test_tokens_that_move_together_attend_the_same(attention):
    plain = RUN(attention, X, POSITIONS, jnp.ones((N, N), bool))
    np.testing.assert_allclose(RUN(attention, X, POSITIONS + 4, jnp.ones((N, N), bool)), plain, atol=1e-5)
    order = np.random.default_rng(0).permutation(N)
    shuffled = RUN(attention, X[:, order], POSITIONS[order], jnp.ones((N, N), bool))
    np.testing.assert_allclose(shuffled, plain[:, order], atol=1e-5)


def test_the_rule_is_who_sees_whom(attention):
    assert frame_mask(POSITIONS, causal=False) is None
    mask = np.asarray(frame_mask(POSITIONS, causal=True))
    frame = np.asarray(POSITIONS)[:, 0]
    for i in range(N):
        np.testing.assert_array_equal(mask[i], frame <= frame[i])  # its own frame too
    changed = X.at[:, N // 2 :].add(1.0)
    before, after = (RUN(attention, x, POSITIONS, mask) for x in (X, changed))
    np.testing.assert_array_equal(after[:, : N // 2], before[:, : N // 2])
    assert np.abs(after - before)[:, N // 2 :].min() > 0


def test_a_mask_may_differ_between_examples(attention):
    masks = jnp.stack([jnp.ones((N, N), bool), jnp.eye(N, dtype=bool)])
    out = RUN(attention, X, POSITIONS, masks)
    for i in range(2):
        np.testing.assert_allclose(out[i : i + 1], RUN(attention, X[i : i + 1], POSITIONS, masks[i]), atol=1e-6)


def test_cross_attention_ignores_masked_tokens_and_survives_none():
    made = CrossAttention.init(KEYS[1], WIDTH, 6, HEADS)
    cross = CrossAttention(made.q, made.kv, type(made.out).init(KEYS[2], WIDTH, WIDTH), jnp.ones(6), HEADS)
    run = jax.jit(lambda c, x, tokens, mask: c(x, tokens, mask))
    tokens = jax.random.normal(KEYS[3], (2, 3, 6))
    mask = jnp.array([[True, True, False], [False, False, False]])
    before = run(cross, X, tokens, mask)
    np.testing.assert_array_equal(run(cross, X, tokens.at[:, 2].set(1e3).at[1].set(-1e3), mask), before)
    assert np.isfinite(before).all()
    assert np.abs(run(cross, X, tokens.at[0, 1].add(1), mask) - before)[0].max() > 1e-3
    # With all tokens masked, everybody looks at the null: the same for every query.
    np.testing.assert_allclose(before[1], jnp.broadcast_to(before[1, :1], before[1].shape), atol=1e-5)


def test_heads_that_do_not_fit_are_refused():
    check_heads(24, 4)
    for make in (
        lambda: TransformerConfig(width=20, heads=4),
        lambda: UNetConfig(widths=(8, 12), heads=4),
        lambda: check_heads(8, 0),
    ):
        with pytest.raises(UserError, match="heads do not divide a width"):
            make()
