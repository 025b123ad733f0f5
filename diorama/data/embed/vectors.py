"""Columns of vectors, some of them null, as matrices and back."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def stacked(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The vectors (n, d) float32 that are not null, and the rows (n,) in which they stand."""
    known = np.flatnonzero(column.is_valid().to_numpy())
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return flat.reshape(len(known), -1) if len(known) else np.zeros((0, 0), np.float32), known


def over_known(
    column: pa.ChunkedArray, function: Callable[[np.ndarray], Mapping[str, Sequence[Any]]], names: Iterable[str]
) -> dict[str, list[Any]]:
    """Columns `names` of `function` of the vectors (n, d) of a column; null where the vector is."""
    vectors, rows = stacked(column)
    values = function(vectors) if len(rows) else {}
    out: dict[str, list[Any]] = {name: [None] * len(column) for name in names}
    for name, some in values.items():
        for row, value in zip(rows, some, strict=True):
            out[name][row] = value
    return out
