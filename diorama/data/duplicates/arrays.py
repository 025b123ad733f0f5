"""Arrow columns as arrays, and rows of numbers of which each counts once."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Ragged:
    """Arrays of one shape but for their lengths, one after another: the k-th is values[starts[k] : starts[k + 1]]."""

    values: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, column: pa.ChunkedArray, dtype: type, *shape: int) -> "Ragged":
        """A column of bytes, none of them null, as arrays (n, *shape)."""
        array = pa.concat_arrays([pa.array([], pa.large_binary()), *column.cast(pa.large_binary()).chunks])
        _, offsets, data = array.buffers()
        starts = np.frombuffer(offsets, np.int64)[: len(array) + 1] if len(array) else np.zeros(1, np.int64)
        values: np.ndarray = np.frombuffer(data or b"", np.uint8)[: starts[-1]].view(dtype).reshape(-1, *shape)
        return cls(values, starts // (np.dtype(dtype).itemsize * int(np.prod(shape))))

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, k: int) -> np.ndarray:
        return self.values[self.starts[k] : self.starts[k + 1]]


def rows_of(asked: pa.Array | pa.ChunkedArray, among: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Where each of the values asked for first stands among others (n,) int64; -1 where it does not."""
    return np.asarray(pc.fill_null(pc.index_in(asked, value_set=among), -1)).astype(np.int64)


def distinct(*columns: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The rows of columns (n,) of numbers, each once, sorted by the first, then the next; and how often each came."""
    order = np.lexsort(columns[::-1])
    columns = tuple(column[order] for column in columns)
    new = np.ones(len(order), bool)
    new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    counts = np.diff(np.append(np.flatnonzero(new), len(order)))
    return [column[new] for column in columns], counts
