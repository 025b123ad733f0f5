"""Attention by place: every way and every short cut gives what the whole table of scores gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.net import attend as module
from diorama.net.attend import Keys, attend, attend_by_place
from diorama.net.places import Places, Reach, sees

B, T, H, W, HEADS, E = 2, 6, 2, 3, 2, 4
GRID = (T, H, W)
N = T * H * W
REACHES = {
    "everywhere": Reach(),
    "causal": Reach(future=0),
    "block": Reach(future=0, block=3),
    "past": Reach(past=2, future=0),
    "frame": Reach(past=0, future=0),
    "place": Reach(rows=0, columns=0),
    "causal place": Reach(future=0, rows=0, columns=0),
    "band": Reach(past=1, future=1),
    "window": Reach(past=1, future=0, rows=1, columns=1),
}
TEXT = jnp.asarray([[0, 0, -1, -1], [0, 0, 0, 0]])


def draw(seed: int, n: int = N) -> tuple[jax.Array, ...]:
    return tuple(jax.random.normal(key, (B, n, HEADS, E)) for key in jax.random.split(jax.random.key(seed), 3))


def truth(q, k, v, mask):
    """Softmax of the whole table, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    scores = np.einsum("bnke,bmke->bknm", q, k) / np.sqrt(E)
    scores = np.where(np.asarray(mask)[:, None], scores, -np.inf)
    weight = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bknm,bmke->bnke", weight / weight.sum(-1, keepdims=True), v)


def box(reach: Reach, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The rule, said once more, pair by pair."""
    out = np.ones((len(queries), len(keys)), bool)
    for i, a in enumerate(queries):
        for j, b in enumerate(keys):
            frames = b[0] // reach.block - a[0] // reach.block
            out[i, j] = (
                (reach.past is None or -reach.past <= frames)
                and (reach.future is None or frames <= reach.future)
                and (reach.rows is None or abs(b[1] - a[1]) <= reach.rows)
                and (reach.columns is None or abs(b[2] - a[2]) <= reach.columns)
            )
    return out


@pytest.mark.parametrize("name", REACHES)
def test_who_sees_whom(name):
    places, reach = Places.grid(*GRID), REACHES[name]
    position = np.asarray(places.position[0])
    table = sees(reach, places, places)
    if name == "everywhere":
        assert table is None
    else:
        np.testing.assert_array_equal(table[0], box(reach, position, position))


def test_segments_do_not_see_each_other_and_nobody_sees_padding():
    segment = jnp.asarray([[0, 0, 1, 1, -1], [0, 1, 1, 1, 1]])
    table = np.asarray(sees(Reach(), Places(jnp.zeros((1, 5, 3)), segment), Places(jnp.zeros((1, 5, 3)), segment)))
    s = np.asarray(segment)
    np.testing.assert_array_equal(table, (s[:, :, None] == s[:, None]) & (s >= 0)[:, None])


@pytest.mark.parametrize("way", ["xla", "chunked"])
@pytest.mark.parametrize("extra", [False, True], ids=["", "text"])
@pytest.mark.parametrize("name", REACHES)
def test_short_cuts_and_pieces_are_the_whole_table(name, extra, way, monkeypatch):
    monkeypatch.setattr(module, "PIECE", B * HEADS * N * 5)  # pieces of a few queries, of which the last is not full
    reach, (q, k, v) = REACHES[name], draw(0)
    said = Keys(*draw(1, 4)[:2], Places.nowhere(TEXT)) if extra else None
    grid = Places.grid(*GRID)
    run = jax.jit(lambda q, k, v, said: attend_by_place(q, Keys(k, v, grid), reach, GRID, None, said, way))
    position = np.asarray(Places.grid(*GRID).position[0])
    mask = np.broadcast_to(box(reach, position, position), (B, N, N))
    if said is not None:
        seen = np.broadcast_to(np.asarray(TEXT >= 0)[:, None], (B, N, 4))
        mask, k2, v2 = np.concatenate([seen, mask], -1), np.concatenate([said.k, k], 1), np.concatenate([said.v, v], 1)
    else:
        k2, v2 = k, v
    np.testing.assert_allclose(run(q, k, v, said), truth(q, k2, v2, mask), atol=2e-6)


@pytest.mark.parametrize("name", ["causal", "causal place", "past", "frame"])
def test_past_frames_from_memory_are_past_frames(name):
    reach, (q, k, v) = REACHES[name], draw(2)
    whole = attend_by_place(q, Keys(k, v, Places.grid(*GRID)), reach, GRID)
    cut = 4 * H * W
    order = np.asarray([2, 0, 3, 1])  # a ring has its frames in any order, and a slot that is empty
    index = jnp.asarray((order[:, None] * H * W + np.arange(H * W)).reshape(-1))
    places = Places(Places.grid(*GRID).position[:, index], jnp.zeros((1, cut), int))
    empty = Places(jnp.zeros((1, H * W, 3)), jnp.full((1, H * W), -1))
    memory = Keys(
        jnp.concatenate([k[:, index], jnp.full((B, H * W, HEADS, E), 1e3)], axis=1),
        jnp.concatenate([v[:, index], jnp.full((B, H * W, HEADS, E), 1e3)], axis=1),
        jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), places, empty),
    )
    own = Keys(k[:, cut:], v[:, cut:], Places.grid(2, H, W, 4))
    rest = attend_by_place(q[:, cut:], own, reach, (2, H, W), memory)
    np.testing.assert_allclose(rest, whole[:, cut:], atol=1e-6)


@pytest.mark.parametrize("way", ["xla", "chunked"])
def test_every_way_has_both_derivatives(way, monkeypatch):
    monkeypatch.setattr(module, "PIECE", B * HEADS * N * 5)
    reach, given, along = REACHES["band"], draw(3), draw(4)
    run = jax.jit(lambda q, k, v: attend_by_place(q, Keys(k, v, Places.grid(*GRID)), reach, GRID, way=way))
    mask = sees(reach, Places.grid(*GRID), Places.grid(*GRID))
    plain = jax.jit(lambda q, k, v: jax.nn.dot_product_attention(q, k, v, mask=mask[:, None]))
    cotangent = draw(5)[0]
    for found, wanted in zip(jax.vjp(run, *given)[1](cotangent), jax.vjp(plain, *given)[1](cotangent), strict=True):
        np.testing.assert_allclose(found, wanted, atol=3e-6)
    (_, forward), (_, wanted) = jax.jvp(run, given, along), jax.jvp(plain, given, along)
    np.testing.assert_allclose(forward, wanted, atol=3e-6)


@pytest.mark.parametrize(("kind", "within"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_who_sees_nothing_gets_the_mean(kind, within):
    q, k, v = (x.astype(kind) for x in draw(7))
    mask = jnp.ones((1, N, N), bool).at[0, 1].set(False)
    found = attend(q, k, v, mask, "xla").astype(jnp.float32)
    np.testing.assert_allclose(found[:, 1], v.astype(jnp.float32).mean(1), rtol=within, atol=within)
    np.testing.assert_allclose(found[:, 0], truth(q, k, v, np.ones((B, N, N), bool))[:, 0], rtol=within, atol=within)
    gradients = jax.grad(lambda *x: attend(*x, mask, "xla").astype(jnp.float32).sum(), (0, 1, 2))(q, k, v)
    assert all(jnp.isfinite(x).all() for x in gradients)


def test_many_scores_go_in_pieces_unasked(monkeypatch):
    q, k, v = draw(6)
    whole = attend(q, k, v)
    monkeypatch.setattr(module, "MANY", 100)
    monkeypatch.setattr(module, "PIECE", B * HEADS * N * 4)
    program = jax.jit(lambda q, k, v: attend(q, k, v)).lower(q, k, v).as_text()
    assert "while" in program
    np.testing.assert_allclose(attend(q, k, v), whole, atol=1e-6)


def test_a_reach_that_is_none_is_refused():
    with pytest.raises(UserError, match="at least 0"):
        Reach(past=-1)
    with pytest.raises(UserError, match="at least one frame"):
        Reach(block=0)


def test_a_kernel_that_is_not_there_is_said():
    q, k, v = draw(7)
    with pytest.raises(UserError, match=r"net\.attention=cudnn does not go here: .*; set it to auto"):
        attend(q, k, v, way="cudnn")
