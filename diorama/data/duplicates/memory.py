"""What was found of clips and of pairs of them, kept from one decision to the next.

All of it follows from signatures alone, so that what a rule makes of it does not depend on what is kept: without any
of it the same is found again. Rows are only added, in Parquet files that are written whole or not at all, and any of
the files may be deleted at any time.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from diorama.core.files import hash_bytes
from diorama.data.ledger import append

# code: a hash of the clip's hashes, 0 where it has none. near: the codes of the clips seen before it, or with it, with
# which it may share what it shows; null where another clip of this code has them. So what a row says of two clips
# stands in the row of the later one, and whichever rows are lost, the others miss nothing of one another.
CLIPS = pa.schema([
    ("id", pa.string()),
    ("code", pa.uint64()),
    ("hashes", pa.large_binary()),
    ("near", pa.list_(pa.uint64())),
])  # fmt: skip

# Two clips, the smaller id first, whose frames were compared up to `reach` bits. The rest is null where they differ.
OUTCOMES = pa.schema([
    ("id", pa.string()),
    ("other", pa.string()),
    ("reach", pa.int8()),
    ("distance", pa.int32()),
    ("score", pa.float64()),
    ("share", pa.float64()),
])  # fmt: skip


class Memory:
    """Tables of `CLIPS` and `OUTCOMES`, in a folder, or where that is None for as long as this object lives."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._added: dict[str, list[pa.Table]] = {"clips": [], "outcomes": []}

    def clips(self, *columns: str) -> pa.Table:
        """Columns of `CLIPS`; an id may come twice."""
        return self._read("clips", CLIPS, columns)

    def outcomes(self) -> pa.Table:
        """All of `OUTCOMES`; a pair may come twice."""
        return self._read("outcomes", OUTCOMES, OUTCOMES.names)

    def add_clips(self, table: pa.Table) -> None:
        """Keep more of `CLIPS`."""
        self._add("clips", table.cast(CLIPS))

    def add_outcomes(self, table: pa.Table) -> None:
        """Keep more of `OUTCOMES`."""
        self._add("outcomes", table.cast(OUTCOMES))

    def _read(self, kind: str, schema: pa.Schema, columns: tuple[str, ...] | list[str]) -> pa.Table:
        tables = self._added[kind]
        if self.folder is not None:
            files = sorted((self.folder / kind).glob("*.parquet"))
            tables = [pq.read_table(file, columns=list(columns), partitioning=None) for file in files]
        return pa.concat_tables(
            [schema.empty_table().select(list(columns)), *(t.select(list(columns)) for t in tables)]
        )

    def _add(self, kind: str, table: pa.Table) -> None:
        if self.folder is None:
            self._added[kind].append(table)
            return
        key = "\n".join(str(value) for name in _KEYS[kind] for value in table[name].to_pylist())
        append(self.folder / kind, hash_bytes(key.encode(), 8), table)


_KEYS = {"clips": ["id"], "outcomes": ["id", "other", "reach"]}
