"""Tokens of a clip over several devices (the layout's `sequence` axis), and attention among them.

A layer that works token by token needs nothing else. Attention needs all tokens, and takes one of two ways:

    by head   devices exchange tokens for heads: each then has whole clips of some heads, and computes attention as if
              alone (DeepSpeed-Ulysses, Jacobs et al. 2023, arXiv 2309.14509)
    ring      where heads do not divide: keys and values go round, and each device adds up what its queries see of them
              (Liu et al. 2023, arXiv 2310.01889), softmax's maximum and sum running along (Milakov & Gimelshein 2018,
              arXiv 1805.02867)

By head sends 4 n d / s numbers a device and layer (s devices, n tokens of width d) and leaves every way of computing
attention open; a ring sends 2 n d (s - 1) / s. Without a mesh all this is a reshape.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from diorama.core.array import Array, Bool, Float
from diorama.core.errors import UserError
from diorama.core.layout import BATCH, over, place
from diorama.net.attend import Grid, Heads, Keys, Way, attend_by_place
from diorama.net.places import Places, Reach, sees

Sums = tuple[Array, Array, Array]


def _split(grid: tuple[int, ...]) -> tuple[str | None, ...]:
    """Which of (t, h, w) lies over `sequence`: rows, else frames, else columns; the neighbour of a row is cheap to see.

    Raises `UserError` where the axis divides none of them.
    """
    parts = over("sequence")
    for axis in (1, 0, 2):
        if grid[axis] % parts == 0:
            return tuple("sequence" if i == axis and parts > 1 else None for i in range(3))
    raise UserError(
        f"layout.sequence is {parts} and divides neither the rows, frames nor columns of {grid[0]} frames of "
        f"{grid[1]}x{grid[2]} tokens: choose one that divides any of them"
    )


def by_token(x: Float[Array, "b t h w *d"], *channels: str | None) -> Float[Array, "b t h w *d"]:
    """Every device its tokens; `channels` are as of `place`, whole if not given."""
    return place(x, BATCH, *_split(x.shape[1:4]), *(channels or (None,)))


def by_frame(x: Float[Array, "b t h w d"]) -> Float[Array, "b t h w d"]:
    """As `by_token`, for a convolution of every frame: devices all hold different tokens, or whole frames.

    Where rows are split over some devices and copied to others, XLA (of JAX 0.10.2) adds up the gradient of the kernel
    once for each copy. So devices along `tensor`, and those over which the batch does not divide, take tokens too.
    """
    if over("sequence") == 1:
        return x
    alike = len(x) % over(BATCH) == 0
    lies = ("sequence", "tensor") if alike else (*BATCH, "sequence", "tensor")
    split = next((i for i in (1, 0, 2) if x.shape[1 + i] % over(lies) == 0), None)
    batch = BATCH if alike or split is None else None
    return place(x, batch, *(lies if i == split else None for i in range(3)), None)


def flat(x: Float[Array, "b t h w *d"]) -> Float[Array, "b n *d"]:
    """All tokens in a row, those of one device together: of the order of rows where rows are split."""
    if _split(x.shape[1:4])[1]:
        x = x.swapaxes(1, 2)
    return x.reshape(x.shape[0], -1, *x.shape[4:])


def unflat(x: Float[Array, "b n *d"], grid: tuple[int, ...]) -> Float[Array, "b t h w *d"]:
    """The inverse of `flat`."""
    t, h, w = grid
    if _split(grid)[1]:
        return x.reshape(len(x), h, t, w, *x.shape[2:]).swapaxes(1, 2)
    return x.reshape(len(x), t, h, w, *x.shape[2:])


def _by_head(heads: int) -> bool:
    return heads % (over("tensor") * over("sequence")) == 0


def to_rows(x: Float[Array, "b t h w k e"]) -> Float[Array, "b n k e"]:
    """Queries, keys or values as attention takes them: every device its heads of all tokens; in a ring, its tokens."""
    x = by_token(x, "tensor", None)  # else what comes before would be computed where it is needed, from more than this
    if not _by_head(x.shape[-2]):
        return flat(x)
    x = place(x, BATCH, None, None, None, ("tensor", "sequence"), None)
    return x.reshape(x.shape[0], -1, *x.shape[4:])


def from_rows(x: Float[Array, "b n k e"], grid: tuple[int, ...]) -> Float[Array, "b t h w k e"]:
    """The inverse of `to_rows`."""
    x = x.reshape(len(x), *grid, *x.shape[2:]) if _by_head(x.shape[-2]) else unflat(x, grid)
    return by_token(x, "tensor", None)


def places_of_rows(places: Places, grid: tuple[int, ...], heads: int) -> Places:
    """Where the tokens of `to_rows` lie."""
    if _by_head(heads):
        return places
    return jax.tree.map(lambda x: flat(x.reshape(len(x), *grid, *x.shape[2:])), places)


def attend_rows(
    q: Heads, own: Keys, reach: Reach, grid: Grid | None = None, memory: Keys | None = None, extra: Keys | None = None,
    way: Way = "auto",
) -> Heads:  # fmt: skip
    """As `attend_by_place`, of `to_rows`."""
    if _by_head(q.shape[-2]):
        return attend_by_place(q, own, reach, grid, memory, extra, way)
    if memory is not None:
        raise UserError("past frames are kept for heads that the devices divide: set layout.sequence to 1 for sampling")
    return _ring(q, own, reach, extra)


def _ring(q: Heads, own: Keys, reach: Reach, extra: Keys | None) -> Heads:
    """Keys and values go round once; each device's queries see `extra` first, then its own."""
    devices = over("sequence")
    batch = BATCH if len(q) % over(BATCH) == 0 else None
    heads = "tensor" if q.shape[2] % over("tensor") == 0 else None

    def lies(tokens: str | None) -> Callable[[Array], PartitionSpec]:
        def spec(x: Array) -> PartitionSpec:
            rest = (heads, None) if x.ndim == 4 else (None,) * (x.ndim - 2)
            return PartitionSpec(batch if len(x) > 1 else None, tokens, *rest)

        return spec

    split = jax.tree.map(lies("sequence"), (q, own))
    specs = (*split, jax.tree.map(lies(None), extra))

    @partial(jax.shard_map, in_specs=specs, out_specs=specs[0], check_vma=False)
    def turn(q: Heads, own: Keys, extra: Keys | None) -> Heads:
        b, n, k, e = q.shape
        here = own.places

        @jax.checkpoint
        def see(sums: Sums, keys: Keys) -> Sums:
            return _added(sums, q, keys, sees(reach, here, keys.places))

        def step(state: tuple[Sums, Keys], _: None) -> tuple[tuple[Sums, Keys], None]:
            sums, keys = state
            keys = jax.lax.ppermute(keys, "sequence", [(i, (i + 1) % devices) for i in range(devices)])
            return (see(sums, keys), keys), None

        sums: Sums = jnp.full((b, k, n), -jnp.inf), jnp.zeros((b, k, n)), jnp.zeros((b, n, k, e))
        if extra is not None:
            sums = _added(sums, q, extra, sees(Reach(), here, extra.places))
        ((_, total, y), _), _ = jax.lax.scan(step, (see(sums, own), own), None, length=devices - 1)
        return (y / jnp.maximum(total, 1e-30).swapaxes(1, 2)[..., None]).astype(q.dtype)

    return turn(q, own, extra)


def _added(sums: Sums, q: Heads, keys: Keys, mask: Bool[Array, "b n m"] | None) -> Sums:
    """These keys added to maximum (b, k, n), sum (b, k, n) and weighted values (b, n, k, e); float32."""
    top, total, y = sums
    scores = jnp.einsum("bnke,bmke->bknm", q, keys.k, preferred_element_type=jnp.float32) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = jnp.where(mask[:, None], scores, -jnp.inf)
    highest = jnp.maximum(top, jax.lax.stop_gradient(scores.max(-1)))
    shift = jnp.where(jnp.isfinite(highest), highest, 0.0)  # nothing was seen yet
    weight, before = jnp.exp(scores - shift[..., None]), jnp.exp(top - shift)
    y = y * before.swapaxes(1, 2)[..., None]
    y = y + jnp.einsum("bknm,bmke->bnke", weight, keys.v.astype(jnp.float32))
    return highest, total * before + weight.sum(-1), y
