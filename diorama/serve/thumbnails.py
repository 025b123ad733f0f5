"""Small pictures of items, at hand in any order: those that the stage `Preview` stored, packed once.

Curation writes them into Parquet shards, out of which one picture costs the reading of hundreds. Here they lie one
after another in a few flat files of the cache, each item's thumbnail before its larger image, never edited, each file
with an index of ids and offsets that is written last; a page of 200 is 200 small reads. Packing runs in a thread; what
is not packed yet is known to be `pending`.
"""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diorama.core.files import hash_bytes, write_aside
from diorama.data.ledger import batched, quote

SHARDS = 16  # of a pack; 8,192 clips
FORM = 2  # of the packs; raise it when they change
_INDEX = pa.schema([
    ("shard", pa.string()), ("id", pa.string()), ("offset", pa.int64()),
    ("thumbnail", pa.int32()), ("image", pa.int32()),  # their sizes
])  # fmt: skip


class Thumbnails:
    """The pictures of the stage `Preview`, of `count` items whose numbers and ids `con` has as `item`.

    Args:
        folder: the stage's observations. cache: where packs go, and go away with another version of the stage.
    """

    def __init__(self, folder: Path, cache: Path, con: duckdb.DuckDBPyConnection, count: int) -> None:
        self._folder, self._con = folder, con
        self._packs: list[int] = []  # files
        self._pack = np.full(count, -1, np.int16)
        self._offset = np.zeros(count, np.int64)
        self._sizes = np.zeros((count, 2), np.int32)  # thumbnail and image
        self._cache = cache / "thumbnails" / f"{folder.name}-{FORM}"
        self._cache.mkdir(parents=True, exist_ok=True)
        for other in self._cache.parent.iterdir():
            if other != self._cache:
                shutil.rmtree(other, ignore_errors=True)
        self._closing = threading.Event()
        for index in sorted(self._cache.glob("*.parquet")):
            self._take(index)
        packed = self._shards_packed()
        todo = sorted((s for s in folder.glob("*.parquet") if s.name not in packed), key=lambda s: s.stat().st_mtime_ns)
        self._thread = threading.Thread(target=self._build, args=(todo,), daemon=True)
        self._thread.start()

    @property
    def pending(self) -> bool:
        """Whether more are being packed."""
        return self._thread.is_alive()

    def wait(self) -> None:
        """Return when all are packed."""
        self._thread.join()

    def get(self, n: int, larger: bool = False) -> bytes:
        """An item's thumbnail as JPEG, or its image that is `larger`; empty where there is none, or none yet.

        Observations of before there were thumbnails give the image either way.
        """
        if not 0 <= n < len(self._pack) or self._pack[n] < 0:
            return b""
        thumbnail, image = map(int, self._sizes[n])
        larger = larger or not thumbnail
        size, skipped = (image, thumbnail) if larger else (thumbnail, 0)
        return os.pread(self._packs[self._pack[n]], size, int(self._offset[n]) + skipped)

    def frames(self, identifier: str) -> list[bytes]:
        """All that are stored of a clip, in the order of time."""
        indices = [str(path) for path in self._cache.glob("*.parquet")]
        if not indices:
            return []
        found = self._con.cursor().execute(
            "select shard from read_parquet(?) where id = ? limit 1", [indices, identifier]).fetchone()  # fmt: skip
        if found is None:
            return []
        rows = pq.read_table(self._folder / found[0], columns=["images"], filters=[("id", "=", identifier)])
        return rows["images"][0].as_py() or []

    def close(self) -> None:
        """Stop packing and let go of the files."""
        self._closing.set()
        self._thread.join()
        for file in self._packs:
            os.close(file)
        self._packs, self._pack = [], np.full(0, -1, np.int16)

    def _build(self, shards: list[Path]) -> None:
        for part in batched(shards, SHARDS):
            if self._closing.is_set():
                return
            name = hash_bytes("".join(shard.name for shard in part).encode(), 8)
            rows: list[tuple[str, str, int, int, int]] = []
            with write_aside(self._cache / f"{name}.jpegs") as aside, aside.open("wb") as file:
                for shard in part:
                    for identifier, thumbnail, image in _stored(shard):
                        rows.append((shard.name, identifier, file.tell(), len(thumbnail), len(image)))
                        file.write(thumbnail + image)
            columns = [
                pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), _INDEX, strict=True)
            ]
            with write_aside(self._cache / f"{name}.parquet") as aside:
                pq.write_table(pa.table(columns, schema=_INDEX) if rows else _INDEX.empty_table(), aside)
            self._take(self._cache / f"{name}.parquet")

    def _take(self, index: Path) -> None:
        """Know the pictures of a pack."""
        join = f"item join read_parquet({quote(index)}) as b using (id)"
        found = self._con.cursor().execute(f"select n, b.offset, b.thumbnail, b.image from {join}").fetchnumpy()
        self._packs.append(os.open(index.with_suffix(".jpegs"), os.O_RDONLY))
        n = np.asarray(found["n"], np.int64)
        self._offset[n] = found["offset"]
        self._sizes[n] = np.stack([found["thumbnail"], found["image"]], 1)
        self._pack[n] = len(self._packs) - 1  # last: who reads this finds the others

    def _shards_packed(self) -> set[str]:
        indices = [str(path) for path in self._cache.glob("*.parquet")]
        if not indices:
            return set()
        return {
            s for (s,) in self._con.cursor().execute("select distinct shard from read_parquet(?)", [indices]).fetchall()
        }


def _stored(shard: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Of the clips of a shard that have pictures: id, thumbnail (empty where a shard has none), and the middle one of
    the images."""
    with pq.ParquetFile(shard) as file:
        columns = [name for name in ("id", "images", "thumbnail") if name in file.schema_arrow.names]
        table = file.read(columns)
    images = table["images"].combine_chunks()
    starts, values = images.offsets.to_pylist(), images.values
    thumbnails = table["thumbnail"] if "thumbnail" in columns else pa.nulls(len(table))
    for k, identifier in enumerate(table["id"].to_pylist()):
        count = starts[k + 1] - starts[k]
        if count:
            yield identifier, thumbnails[k].as_py() or b"", values[starts[k] + count // 2].as_py()
