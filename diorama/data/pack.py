"""Packing: clips of several sizes and lengths side by side in rows of one length (NaViT, arXiv 2307.06304).

One shape serves them all, and little of it is empty. Which clips share a row is drawn once, so that rows are examples
like any others: with random access, ids, and any order.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

import numpy as np

from diorama.core.errors import UserError
from diorama.data.clips import Example
from diorama.data.feed import GOLDEN, Source


class PackedSource:
    """The examples of `sources` in rows of `tokens`; `media` of each source are arrays (t, h, w, c) of one shape.

    `source[i]` is `{"media": (n, 1, 1, c), "position": (n, 3) frame, row and column, "segment": (n,) which of the row's
    clips a token is of, -1 for none, "index": (n,) its number in the clip, "frame": (n,) which of the row's frames it
    is of, "first": (f,) the first token of each frame, 0 for none, "clip": (s,) uint32 the clips' ids, "id": uint32 of
    the row}` and, of each other array of an example, (s, ...): `fill` of its name where there is no clip.
    Rows are filled best-fit in random order, anew in each of `plans`; with `weights`, an example comes into a plan its
    weight rounded up or down times. Raises `UserError` for a clip that is longer than a row.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        tokens: int,
        *,
        seed: int = 0,
        plans: int = 4,
        fill: dict[str, Any] | None = None,
    ):
        self.sources, self.tokens, self.seed, self.fill = list(sources), tokens, seed, fill or {}
        shapes = [np.shape(source[0]["media"]) for source in sources]
        self.sizes = [int(np.prod(shape[:3])) for shape in shapes]
        self.longest, self.frames = max(self.sizes), max(shape[0] for shape in shapes)
        if self.longest > tokens:
            raise UserError(f"a clip of {self.longest} latent cells does not fit in a row of {tokens}: set longer rows")
        self.row_frames = tokens // min(shape[1] * shape[2] for shape in shapes)
        self.rows = [row for plan in range(plans) for row in self._plan(plan)]
        self.most = max(map(len, self.rows))

    def _plan(self, number: int) -> list[list[tuple[int, int]]]:
        """Rows of (source, example); every example about as often as its weight says."""
        rng = np.random.default_rng((self.seed, number))
        drawn = []
        for s, source in enumerate(self.sources):
            ends = np.cumsum(source.weights) * (len(source) / np.sum(source.weights))
            at = np.arange(len(source)) + (rng.random() + number * GOLDEN) % 1  # systematic, as in `feed`
            drawn += [(s, min(int(i), len(source) - 1)) for i in np.searchsorted(ends, at, side="right")]
        rows: list[list[tuple[int, int]]] = []
        room: list[tuple[int, int]] = []  # how much of a row is empty, and its number, sorted
        for k in rng.permutation(len(drawn)):
            size = self.sizes[drawn[k][0]]
            place = bisect_left(room, (size, 0))
            if place == len(room):
                rows.append([])
                left, row = self.tokens, len(rows) - 1
            else:
                left, row = room.pop(place)
            rows[row].append(drawn[k])
            if left - size >= min(self.sizes):
                insort(room, (left - size, row))
        return rows

    @property
    def filled(self) -> float:
        """The share of all rows that is not empty."""
        return sum(self.sizes[s] for row in self.rows for s, _ in row) / (len(self.rows) * self.tokens)

    @property
    def weights(self) -> np.ndarray:
        """All rows come alike."""
        return np.ones(len(self.rows))

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"PackedSource({len(self)} rows of {self.tokens}, {self.filled:.0%} full, seed {self.seed})"

    def __getitem__(self, i: int) -> Example:
        examples = [self.sources[s][k] for s, k in self.rows[i]]
        media = [np.asarray(example["media"]) for example in examples]
        parts: dict[str, list[np.ndarray]] = {
            "media": [x.reshape(-1, 1, 1, x.shape[-1]) for x in media],
            "position": [np.indices(x.shape[:3], np.float32).reshape(3, -1).T for x in media],
            "segment": [np.full(x[..., 0].size, s, np.int32) for s, x in enumerate(media)],
            "index": [np.arange(x[..., 0].size, dtype=np.int32) for x in media],
        }
        begins = np.cumsum([0, *(x[0, ..., 0].size for x in media for _ in x)])
        parts["frame"] = [np.repeat(np.arange(len(begins) - 1, dtype=np.int32), np.diff(begins))]
        first = _filled(begins[:-1].astype(np.int32), self.row_frames, 0)
        row = {k: _filled(np.concatenate(v), self.tokens, -1 if k == "segment" else 0) for k, v in parts.items()}
        said = {
            name: _filled(np.stack([example[name] for example in examples]), self.most, self.fill.get(name, 0))
            for name, value in examples[0].items()
            if name not in ("media", "id") and not isinstance(value, str)
        }
        clips = _filled(np.array([example["id"] for example in examples], np.uint32), self.most, 0)
        return row | said | {"first": first, "clip": clips, "id": np.uint32((i * 2654435761 + self.seed) % 2**32)}


def _filled(array: np.ndarray, length: int, value: Any) -> np.ndarray:
    """The array with its first axis made `length` by `value`."""
    rest = np.full((length - len(array), *array.shape[1:]), value, array.dtype)
    return np.concatenate([array, rest])
