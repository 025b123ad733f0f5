"""Which clips may show the same, by their hashes: a relation that grows with the clips and never is made anew."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diorama.data.duplicates.arrays import Ragged, distinct, rows_of
from diorama.data.duplicates.hamming import LONGEST, join, spread
from diorama.data.duplicates.matches import SHARE
from diorama.data.duplicates.memory import Memory
from diorama.data.stages.hashes import BOXES, MIRRORED

# (ids, column) -> a table of `id` and that column of their signatures, "hashes" or "thumbnails", as bytes; in any
# order, without those that have no signature.
Signatures = Callable[[pa.Array, str], pa.Table]


@dataclass(frozen=True)
class Candidates:
    """codes (n,) uint64: clips of one code have the same hashes; 0 where there are none. near (p, 2) uint64: codes of
    clips that may show the same; each two once. skipped: the comparisons that were left out now (`hamming.join`)."""

    codes: np.ndarray
    near: np.ndarray
    skipped: int


def candidates(ids: pa.Array, signatures: Signatures, memory: Memory, *, mirrored: bool, distance: int) -> Candidates:
    """The clips that may show the same: SHARE of the frames have hashes within the distance, at one shift in time.

    Only clips that the memory does not know are read and joined, with one another and with those that it knows; it is
    told of them. A memory holds what was found with one distance, and with or without mirrored ones.
    """
    known = memory.clips("id", "code", "near")
    row = rows_of(ids, known["id"])
    # A file that held the one clip of a code that was joined may have been deleted: then its others are joined anew.
    joined = pc.is_valid(known["near"]).to_numpy()
    codes = known["code"].to_numpy()
    others, codes = codes[~joined], codes[joined]  # few, and many
    joined[~joined] = np.isin(others, codes[pc.is_in(pa.array(codes), value_set=pa.array(others)).to_numpy(False)])
    fresh = ids.filter(pa.array(~np.append(joined, False)[row]))
    skipped = 0
    if len(fresh) and len(found := signatures(fresh, "hashes")):
        table, skipped = _extended(found, memory, mirrored, distance)
        memory.add_clips(table)
        known = pa.concat_tables([known, table.select(known.column_names)])
        row = rows_of(ids, known["id"])
    codes = np.append(known["code"].to_numpy(), np.uint64(0))
    lists = known["near"].combine_chunks()
    one, other = codes[pc.list_parent_indices(lists).to_numpy()], pc.list_flatten(lists).to_numpy()
    (low, high), _ = distinct(np.minimum(one, other), np.maximum(one, other))
    return Candidates(codes[row], np.stack([low, high], -1), skipped)


def _extended(found: pa.Table, memory: Memory, mirrored: bool, distance: int) -> tuple[pa.Table, int]:
    """The rows of new clips (id, hashes); and the comparisons left out."""
    hashes = Ragged.of(found["hashes"], np.uint64, len(BOXES))
    codes = np.array([_code(hashes[k]) for k in range(len(hashes))], np.uint64)
    known = memory.clips("code", "hashes", "near")
    known = known.filter(pc.is_valid(known["near"]))
    old_codes, rows = np.unique(known["code"].to_numpy(), return_index=True)
    old = Ragged.of(known["hashes"].take(rows), np.uint64, len(BOXES))
    new_codes, rows = np.unique(codes, return_index=True)
    rows = rows[~np.isin(new_codes, old_codes)]
    new = Ragged.of(found["hashes"].take(rows), np.uint64, len(BOXES))
    pairs, skipped = _near(new, old, mirrored, distance)
    others = np.concatenate([codes[rows], old_codes])[pairs[:, 1]]
    row = rows[pairs[:, 0]]
    starts = np.searchsorted(np.sort(row), np.arange(len(codes) + 1))
    lists = pa.ListArray.from_arrays(
        pa.array(starts, pa.int32()), others[np.argsort(row, kind="stable")],
        mask=pa.array(~np.isin(np.arange(len(codes)), rows)),
    )  # fmt: skip
    columns = [found["id"], pa.array(codes), found["hashes"].cast(pa.large_binary()), lists]
    return pa.table(columns, ["id", "code", "hashes", "near"]), skipped


def _code(hashes: np.ndarray) -> int:
    return int.from_bytes(blake2b(hashes.tobytes(), digest_size=8).digest()) if hashes.any() else 0


def _near(new: Ragged, old: Ragged, mirrored: bool, distance: int) -> tuple[np.ndarray, int]:
    """Pairs (p, 2) of a new clip and a clip of both, the new ones counted first, that may show the same, sorted."""
    one, other = _Values.of(new, mirrored), _Values.of(old, mirrored)
    own, left_out = join(one.values, distance=distance)
    twice = np.flatnonzero(one.counts > 1)
    f, g, capped = one.meet(one, np.concatenate([own, np.stack([twice, twice], -1)]))
    across, left_out_too = join(one.values, other.values, distance=distance)
    f_old, g_old, capped_too = one.meet(other, across)
    skipped = left_out + left_out_too + capped + capped_too

    lengths = np.concatenate([new.lengths, old.lengths])
    starts = np.cumsum([0, *lengths])
    first, second = np.minimum(f, g), np.maximum(f, g)
    (f, g), _ = distinct(np.append(first, f_old), np.append(second, g_old + starts[len(new)]))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    i, j = owner[f], owner[g]
    meeting = (i != j) & ((lengths[i] == 1) == (lengths[j] == 1))
    f, g, i, j = f[meeting], g[meeting], i[meeting], j[meeting]
    (i, j, _), votes = distinct(i, j, (g - starts[j]) - (f - starts[i]))
    enough = votes >= SHARE * np.minimum(lengths[i], lengths[j])
    (i, j), _ = distinct(i[enough], j[enough])
    return np.stack([i, j], -1), skipped


@dataclass(frozen=True)
class _Values:
    """Distinct hashes (v,), and the frames that have each: frames[starts[k] : starts[k + 1]]."""

    values: np.ndarray
    starts: np.ndarray
    frames: np.ndarray

    @classmethod
    def of(cls, clips: Ragged, mirrored: bool) -> "_Values":
        asked = clips.values != 0
        if not mirrored:
            asked[:, MIRRORED] = False
        frames, boxes = np.nonzero(asked)
        hashes = clips.values[frames, boxes]
        order = np.argsort(hashes, kind="stable")
        values, starts = np.unique(hashes[order], return_index=True)
        return cls(values, np.append(starts, len(order)), frames[order])

    @property
    def counts(self) -> np.ndarray:
        return np.diff(self.starts)

    def meet(self, other: "_Values", pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """The frames of pairs (p, 2) of values: those of the first, of the second, and how many were left out.

        Of a value that more frames have than `hamming.LONGEST`, the first so many meet others.
        """
        i, j = pairs.T
        rows, columns = np.minimum(self.counts[i], LONGEST), np.minimum(other.counts[j], LONGEST)
        pair, k = spread(np.zeros(len(pairs), np.int64), rows * columns)
        f = self.frames[self.starts[i][pair] + k // columns[pair]]
        g = other.frames[other.starts[j][pair] + k % columns[pair]]
        return f, g, int((self.counts[i] * other.counts[j] - rows * columns).sum())
