"""Where tokens lie, and who sees whom: both are data, so packs, causal time and windows need no code of their own.

A token has a position (frame, row, column) and a segment, the clip it belongs to in a row that holds several (Dehghani
et al. 2023, NaViT, arXiv 2307.06304). A `Reach` is a box around a query, in which it sees what is of its own segment:

    everything          Reach()                         causal by frame       Reach(future=0)
    its own frame       Reach(past=0, future=0)         causal by 3 frames    Reach(future=0, block=3)
    its own place       Reach(rows=0, columns=0)        a window              Reach(past=2, future=2, rows=4, columns=4)
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Bool, Float, Int
from diorama.core.errors import UserError
from diorama.core.module import Module


@dataclass(frozen=True)
class Reach:
    """How far away a token may lie to be seen; None is any distance.

    Args:
        past, future: in blocks of frames; 0 is the query's own block.
        rows, columns: in tokens, to either side.
        block: tokens along time that are one block, counted from the first frame of a clip.
    """

    past: int | None = None
    future: int | None = None
    rows: int | None = None
    columns: int | None = None
    block: int = 1

    def __post_init__(self) -> None:
        if self.block < 1 or any(x is not None and x < 0 for x in (self.past, self.future, self.rows, self.columns)):
            raise UserError(f"{self}: distances are at least 0 (None: any), and a block has at least one frame")

    @property
    def everywhere(self) -> bool:
        """Nothing is too far away."""
        return (self.past, self.future, self.rows, self.columns) == (None,) * 4

    @property
    def own_frame(self) -> bool:
        """Frames do not see each other."""
        return (self.past, self.future, self.block) == (0, 0, 1)

    @property
    def own_place(self) -> bool:
        """Places do not see each other."""
        return (self.rows, self.columns) == (0, 0)


class Places(Module):
    """Where n tokens lie; a leading axis of 1 where all examples agree.

    position: frame, row and column, in tokens or in fractions of them.
    segment: which clip of its row a token belongs to, -1 for none: nobody sees it. None where there is one clip.
    """

    position: Float[Array, "b n 3"]
    segment: Int[Array, "b n"] | None = None

    @staticmethod
    def grid(t: int, h: int, w: int, first: Array | int = 0) -> "Places":
        """Of a `(t, h, w)` grid, in the order of `reshape(t * h * w)`, whose first frame is number `first`."""
        return Places(grid_positions(t, h, w)[None] + jnp.stack([jnp.asarray(first, jnp.float32), 0.0, 0.0]))

    @staticmethod
    def nowhere(segment: Int[Array, "b n"]) -> "Places":
        """Of tokens of text, which have no position."""
        return Places(jnp.zeros((*segment.shape, 3)), segment)

    def at(self, index: Any) -> "Places":
        """Of some of the tokens, by their index or a slice."""
        return Places(self.position[:, index], None if self.segment is None else self.segment[:, index])


class Frames(Module):
    """Which tokens of a row make up a frame: what goes by frames is computed once for each, and not for every token.

    of: the frame of each token. first: a token of each frame.
    """

    of: Int[Array, "b n"]
    first: Int[Array, "b f"]

    def each(self, x: Array) -> Array:
        """What all tokens of a frame have in common (b, n, ...), once for each (b, f, ...)."""
        return jax.vmap(lambda x, first: x[first])(x, self.first)

    def tokens(self, x: Array) -> Array:
        """What frames have (b, f, ...), for each of their tokens (b, n, ...).

        In float32 at the least: the gradient is a sum over a frame's tokens, which bfloat16 stops adding to at 256.
        """
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        return jax.vmap(lambda x, of: x[of])(wide, self.of).astype(x.dtype)


def grid_positions(t: int, h: int, w: int) -> Float[Array, "n 3"]:
    """(frame, row, column) of every cell of a `(t, h, w)` grid, in the order of `reshape(t * h * w)`."""
    axes = jnp.meshgrid(jnp.arange(t), jnp.arange(h), jnp.arange(w), indexing="ij")
    return jnp.stack([a.reshape(-1) for a in axes], axis=-1).astype(jnp.float32)


def sees(reach: Reach, queries: Places, keys: Places) -> Bool[Array, "b n m"] | None:
    """Which keys each query sees; None where that is all of them."""
    near = None if reach.everywhere else _near(reach, queries.position, keys.position)
    if queries.segment is None and keys.segment is None:
        return near
    mine, theirs = (jnp.zeros((1, 1), int) if x is None else x for x in (queries.segment, keys.segment))
    same = (mine[:, :, None] == theirs[:, None]) & (theirs >= 0)[:, None]
    visible = same if near is None else near & same
    return jnp.broadcast_to(visible, (len(visible), queries.position.shape[1], keys.position.shape[1]))


def _near(reach: Reach, queries: Float[Array, "b n 3"], keys: Float[Array, "b m 3"]) -> Bool[Array, "b n m"]:
    """Whether a key lies in the box around a query."""

    def distance(axis: int, size: int = 1) -> Array:
        return keys[:, None, :, axis] // size - queries[:, :, None, axis] // size

    near = jnp.ones((1, 1, 1), bool)
    if reach.past is not None:
        near = near & (distance(0, reach.block) >= -reach.past)
    if reach.future is not None:
        near = near & (distance(0, reach.block) <= reach.future)
    if reach.rows is not None:
        near = near & (jnp.abs(distance(1)) <= reach.rows)
    if reach.columns is not None:
        near = near & (jnp.abs(distance(2)) <= reach.columns)
    return jnp.broadcast_to(near, (max(len(queries), len(keys)), queries.shape[1], keys.shape[1]))
