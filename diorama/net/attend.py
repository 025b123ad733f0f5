"""Attention of queries to keys, behind one function: by XLA, by cuDNN's flash kernel, or in pieces.

All give the same numbers but for rounding. `xla` holds all scores at once; `cudnn` needs an NVIDIA GPU and 16-bit
numbers, and has no forward-mode derivative; `chunked` holds the scores of some queries at a time, and in the backward
pass once more (Rabe & Staats 2021, arXiv 2112.05682). What is out of a layer's reach costs nothing where that can be:
a layer within frames or within places is computed frame by frame or place by place, one that sees few frames in bands.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Bool, Float
from diorama.core.errors import UserError
from diorama.core.layout import BATCH, over, place
from diorama.net.places import Places, Reach, sees

Way = Literal["auto", "xla", "cudnn", "chunked"]
Heads = Float[Array, "b n k e"]
Grid = tuple[int, int, int]

MANY = 2**27  # scores (examples x heads x queries x keys) a device from which `auto` goes in pieces: half a gigabyte
PIECE = 2**26  # scores a piece: enough queries that reading all keys for them is not what takes the time
EVERYWHERE = Reach()


class Keys(NamedTuple):
    """What may be seen: keys, values, and where they lie."""

    k: Heads
    v: Heads
    places: Places


def attend(q: Heads, k: Heads, v: Heads, mask: Bool[Array, "b n m"] | None = None, way: Way = "auto") -> Heads:
    """softmax(q k^T / sqrt(e)) v for each head; what the mask forbids counts nothing.

    `auto` takes cuDNN's kernel for 16-bit numbers on a GPU where nothing is masked, pieces for many scores, else XLA.
    """
    return _attend(q, k, v, lambda index: mask if mask is None or mask.shape[1] == 1 else mask[:, index], way)


def attend_by_place(
    q: Heads, own: Keys, reach: Reach, grid: Grid | None = None, memory: Keys | None = None,
    extra: Keys | None = None, way: Way = "auto",
) -> Heads:  # fmt: skip
    """As `attend`, for queries that lie where `own` keys do, with who sees whom given by places.

    Args:
        own: keys and values of the queries' own tokens.
        reach: how far is seen.
        grid: (t, h, w) where `own` is a whole grid; None where it is anything else.
        memory: of past frames, whole ones of the same (h, w) where there is a grid.
        extra: of what has no place and is seen from everywhere in its segment (text, registers).
        way: as of `attend`.
    """
    if grid is not None and (reach.own_frame or reach.own_place):
        return _folded(q, own, reach, grid, memory, extra, way)
    if grid is not None and memory is None and _few(reach, grid[0]):
        return _banded(q, own, reach, grid, extra, way)
    parts = [(extra, EVERYWHERE), (memory, reach), (own, reach)]
    return _by_place(q, own.places, [(keys, how) for keys, how in parts if keys is not None], way)


def _by_place(q: Heads, places: Places, seen: list[tuple[Keys, Reach]], way: Way) -> Heads:
    """Queries at `places`, to several sets of keys with a reach for each."""
    k, v = (jnp.concatenate([getattr(keys, name) for keys, _ in seen], axis=1) for name in "kv")

    def mask(index: Array | slice) -> Array | None:
        queries = places.at(index)
        masks = [sees(reach, queries, keys.places) for keys, reach in seen]
        if all(m is None for m in masks):
            return None
        b, n = max(len(m) for m in masks if m is not None), queries.position.shape[1]
        sizes = [keys.k.shape[1] for keys, _ in seen]
        tables = (jnp.ones((1, 1, 1), bool) if m is None else m for m in masks)
        return jnp.concatenate([jnp.broadcast_to(m, (b, n, size)) for m, size in zip(tables, sizes, strict=True)], -1)

    return _attend(q, k, v, mask, way)


def _attend(q: Heads, k: Heads, v: Heads, mask: Callable[[Array | slice], Array | None], way: Way) -> Heads:
    """`mask(index)` is that of the queries of an index (None: they see everything)."""
    whole = jax.eval_shape(lambda: mask(slice(None)))
    fits = q.dtype.itemsize == 2 and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128  # what every cuDNN kernel takes
    flash = whole is None and fits and jax.default_backend() == "gpu"
    if way == "chunked" or (way == "auto" and not flash and _scores(q, k) * q.shape[1] > MANY):
        return _pieces(q, k, v, mask)
    table = None if whole is None else mask(slice(None))[:, None]  # type: ignore[index]
    if way == "xla" or (way == "auto" and not flash):
        return _table(q, k, v, table)
    try:
        return jax.nn.dot_product_attention(q, k, v, mask=table, implementation="cudnn")
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise UserError(f"net.attention=cudnn does not go here: {error}; set it to auto") from error


def _table(q: Heads, k: Heads, v: Heads, mask: Bool[Array, "#b 1 #n m"] | None = None) -> Heads:
    """All scores at once, with the softmax in float32; of float16, sums of values over all keys must stay in its range.

    Values are added up before they are divided by the sum of their weights, so that the backward pass, as a flash
    kernel's, has sums over channels in place of sums over keys and keeps one table. The layout is that in which XLA's
    CPU compiler forms products without copying it: a block's attention of 256 tokens took 17 ms so, forward and
    backward, and 25 ms by `jax.nn.dot_product_attention` (docs/log.md).
    """
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    kind = jnp.promote_types(q.dtype, jnp.float32)
    scores = jnp.matmul(q, k.mT, preferred_element_type=kind) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(kind).min / 2)
    weight = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    y = jnp.matmul(weight.astype(v.dtype), v)
    return (y / weight.sum(-1, keepdims=True)).astype(v.dtype).swapaxes(1, 2)


def _scores(q: Heads, k: Heads) -> int:
    """Of one query in all examples and heads that a device has."""
    b, _, heads, _ = q.shape
    return -(-b // over(BATCH)) * -(-heads // over(("tensor", "sequence"))) * k.shape[1]


def _pieces(q: Heads, k: Heads, v: Heads, mask: Callable[[Array | slice], Array | None]) -> Heads:
    """Some queries at a time; the last piece repeats the last query."""
    b, n, heads, e = q.shape
    size = max(1, min(n, PIECE // _scores(q, k)))

    def lie(x: Heads) -> Heads:  # heads apart, tokens together: else pieces would be cut through tokens
        return place(x, BATCH, None, ("tensor", "sequence"), None)

    q, k, v = lie(q), lie(k), lie(v)
    index = jnp.minimum(jnp.arange(-(-n // size) * size), n - 1).reshape(-1, size)

    @jax.checkpoint
    def piece(index: Array) -> Heads:
        table = mask(index)
        whole = None if table is None else table[:, None]
        return lie(_table(lie(q[:, index]), k, v, whole))

    out = jax.lax.map(piece, index)
    return out.swapaxes(0, 1).reshape(b, -1, heads, e)[:, :n]


def _folded(q: Heads, own: Keys, reach: Reach, grid: Grid, memory: Keys | None, extra: Keys | None, way: Way) -> Heads:
    """Frame by frame, or place by place: groups that do not see each other become examples."""
    b, cells = len(q), grid[1] * grid[2]
    groups = grid[0] if reach.own_frame else cells

    def fold(x: Array) -> Array:  # (b, frames * cells, ...) -> (b * groups, tokens of a group, ...)
        x = x.reshape(b, -1, cells, *x.shape[2:])
        x = x if reach.own_frame else x.swapaxes(1, 2)
        return x.reshape(b * groups, *x.shape[2:])

    def unfold(x: Array) -> Array:
        x = x.reshape(b, groups, -1, *x.shape[2:])
        x = x if reach.own_frame else x.swapaxes(1, 2)
        return x.reshape(b, -1, *x.shape[3:])

    def keys(x: Keys) -> Keys:  # all groups lie alike, so one speaks for all
        return Keys(fold(x.k), fold(x.v), x.places.at(slice(cells) if reach.own_frame else slice(None, None, cells)))

    def every(x: Array) -> Array:
        return jnp.repeat(x, groups, axis=0)

    shared = extra and Keys(every(extra.k), every(extra.v), jax.tree.map(every, extra.places))
    past = None if memory is None or reach.own_frame else keys(memory)
    return unfold(attend_by_place(fold(q), keys(own), reach, None, past, shared, way))


def _few(reach: Reach, frames: int) -> bool:
    """Whether the frames in reach are so few that bands of them are worth while."""
    if reach.past is None or reach.future is None or reach.block > 1:
        return False
    return 2 * (reach.past + 1 + reach.future) <= frames


def _banded(q: Heads, own: Keys, reach: Reach, grid: Grid, extra: Keys | None, way: Way) -> Heads:
    """Frame by frame, each with the frames in its reach."""
    assert reach.past is not None
    assert reach.future is not None
    cells = grid[1] * grid[2]
    around = (reach.past * cells, reach.future * cells)
    segment = jnp.zeros(own.places.position.shape[:2], int) if own.places.segment is None else own.places.segment
    places = Places(own.places.position, segment)

    def pad(x: Array, fill: int = 0) -> Array:
        return jnp.pad(x, ((0, 0), around, *((0, 0),) * (x.ndim - 2)), constant_values=fill)

    padded = Keys(pad(own.k), pad(own.v), Places(pad(places.position), pad(segment, -1)))

    @jax.checkpoint
    def frame(f: Array) -> Heads:
        def cut(x: Array, size: int = cells) -> Array:
            return jax.lax.dynamic_slice_in_dim(x, f * cells, size, axis=1)

        band = jax.tree.map(partial(cut, size=cells + sum(around)), padded)
        seen = [(band, reach)] if extra is None else [(extra, EVERYWHERE), (band, reach)]
        return _by_place(cut(q), jax.tree.map(cut, places), seen, way)

    out = jax.lax.map(frame, jnp.arange(grid[0]))
    return out.swapaxes(0, 1).reshape(q.shape)
