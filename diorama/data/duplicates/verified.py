"""Pairs of clips that were verified, by what a memory holds and, where it holds nothing yet, by their thumbnails."""

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diorama.core.errors import UserError
from diorama.data.duplicates.arrays import Ragged, rows_of
from diorama.data.duplicates.candidates import Signatures
from diorama.data.duplicates.matches import Match, Outcome, match, verify
from diorama.data.duplicates.memory import OUTCOMES, Memory
from diorama.data.stages.hashes import BOXES, SIDE

FRAMES = 1 << 16  # whose thumbnails are held at a time, 4 KB each


def verified(
    ids: pa.Array, pairs: np.ndarray, reach: int, signatures: Signatures, memory: Memory, *, mirrored: bool
) -> dict[tuple[int, int], Outcome]:
    """Of pairs (p, 2) of clips i < j, rows of `ids`, those that show the same, and what shows it.

    The clip of the smaller id comes first wherever two are compared, so that the outcome does not depend on the order
    of `ids`. Frames match within `reach` bits. The memory is told of every pair that it did not hold. Raises
    `UserError` where a clip's signature is gone that was there before.
    """
    n = len(ids)
    asked = np.unique(pairs[:, 0] * n + pairs[:, 1])
    known, outcomes = _known(memory.outcomes(), ids, reach)
    missing = asked[~np.isin(asked, known)]
    if len(missing):
        for found in _found(ids, np.stack(np.divmod(missing, n), -1), reach, signatures, mirrored):
            memory.add_outcomes(found)
        known, outcomes = _known(memory.outcomes(), ids, reach)
    row = np.searchsorted(known, asked)
    said = outcomes.take(pa.array(row))
    good = pc.is_valid(said["score"])
    figures = zip(*(said.filter(good)[field.name].to_pylist() for field in fields(Outcome)), strict=True)
    both = np.stack(np.divmod(asked[good.to_numpy()], n), -1).tolist()
    return {(i, j): Outcome(*figure) for (i, j), figure in zip(both, figures, strict=True)}


def _known(table: pa.Table, ids: pa.Array, reach: int) -> tuple[np.ndarray, pa.Table]:
    """The outcomes among `ids`, sorted by (i, j), i < j, packed as i * n + j."""
    table = table.filter(pc.equal(table["reach"], reach))
    i, j = rows_of(table["id"], ids), rows_of(table["other"], ids)
    here = np.flatnonzero((i >= 0) & (j >= 0))
    packed, first = np.unique(np.minimum(i, j)[here] * len(ids) + np.maximum(i, j)[here], return_index=True)
    return packed, table.take(pa.array(here[first]))


def _found(ids: pa.Array, pairs: np.ndarray, reach: int, signatures: Signatures, mirrored: bool) -> Iterator[pa.Table]:
    """Rows of `OUTCOMES` of pairs (p, 2), as many at a time as thumbnails are held."""
    place = np.argsort(pc.array_sort_indices(ids).to_numpy())
    pairs = np.where((place[pairs[:, 0]] < place[pairs[:, 1]])[:, None], pairs, pairs[:, ::-1])
    clips, hashes = _signatures(ids, np.unique(pairs), signatures, "hashes")
    first, second = np.searchsorted(clips, pairs).T
    matches = [match(hashes[i], hashes[j], reach, mirrored) for i, j in zip(first, second, strict=True)]
    matching = np.array([m is not None for m in matches])
    if not matching.all():
        yield _rows(ids, pairs[~matching], reach, [None] * int((~matching).sum()))
    rest = np.flatnonzero(matching)
    batch_of = np.cumsum((hashes.lengths[first] + hashes.lengths[second])[rest]) // FRAMES
    for batch in (rest[batch_of == number] for number in np.unique(batch_of)):
        some: list[Match] = [m for k in batch if (m := matches[k])]
        clips, thumbnails = _signatures(ids, np.unique(pairs[batch]), signatures, "thumbnails")
        first_of, second_of = np.searchsorted(clips, pairs[batch]).T
        outcomes = verify(some, [thumbnails[k] for k in first_of], [thumbnails[k] for k in second_of])
        yield _rows(ids, pairs[batch], reach, outcomes)


def _signatures(ids: pa.Array, clips: np.ndarray, signatures: Signatures, column: str) -> tuple[np.ndarray, Ragged]:
    """Clips (n,), sorted, and their hashes or thumbnails."""
    asked = ids.take(pa.array(clips))
    table = signatures(asked, column)
    rows = rows_of(asked, table["id"])
    if (rows < 0).any():
        lost = asked[int(rows.argmin())].as_py()
        raise UserError(
            f"the signature of clip {lost} is gone since it was compared: delete cache/near of the catalogue"
        )
    shape = (np.uint64, len(BOXES)) if column == "hashes" else (np.uint8, SIDE, SIDE)
    return clips, Ragged.of(table[column].take(pa.array(rows)), *shape)


def _rows(ids: pa.Array, pairs: np.ndarray, reach: int, outcomes: list[Outcome | None]) -> pa.Table:
    figures = {field.name: [getattr(outcome, field.name, None) for outcome in outcomes] for field in fields(Outcome)}
    columns = {"id": ids.take(pa.array(pairs[:, 0])), "other": ids.take(pa.array(pairs[:, 1]))}
    return pa.table({**columns, "reach": [reach] * len(pairs), **figures}, OUTCOMES)
