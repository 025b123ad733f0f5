"""Tables of encoded media: Parquet, the Arrow files of Hugging Face `save_to_disk`, and Lance.

One column holds the media, as bytes or as {bytes, path}; the others say things about them.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diorama.data.sources.archive import guarded
from diorama.media import BadMedia

TABLES = (".parquet", ".arrow", ".lance")  # how their names end; one of Lance is a folder
MEDIA = ("image", "video", "media", "bytes", "jpg", "png", "mp4")  # how a column of media is called


@guarded()
def table(path: Path) -> "Table":
    """The table at `path`. Raises `BadMedia` when it is damaged or holds no media."""
    kinds: dict[str, Callable[[Path], _Stored]] = {".parquet": _Parquet, ".arrow": _Arrow, ".lance": _Lance}
    catalogue = path.suffix == ".lance" and (path.parent / "catalogue.json").exists()
    stored = _Catalogue(path) if catalogue else kinds[path.suffix](path)
    column = next((n for n in MEDIA if n in stored.schema.names and _holds_media(stored.schema.field(n).type)), None)
    if column is None:
        raise BadMedia("a table without a column of media")
    return Table(path, stored, column)


@dataclass(frozen=True)
class Table:
    """Clips out of a table."""

    path: Path
    stored: "_Stored"
    column: str

    @guarded()
    def rows(self) -> list[dict[str, Any]]:
        """What is said of each clip. Raises `BadMedia`."""
        schema = self.stored.schema
        plain = [f.name for f in schema if f.name != self.column and not _is_binary(f.type)]
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        names = features.get("label", {}).get("names") if isinstance(features.get("label"), dict) else None
        rows = self.stored.read(plain).to_pylist() if plain else [{} for _ in range(self.stored.count)]
        if names:
            rows = [{"class_name": names[r["label"]], **r} if r.get("label") is not None else r for r in rows]
        return rows

    @guarded()
    def fetch(self, row: int) -> bytes | Path:
        """One clip's bytes, or the file that the table names. Raises `BadMedia`."""
        value = self.stored.value(row, self.column)
        if isinstance(value, dict):
            value = value.get("bytes") or (self.path.parent / value["path"] if value.get("path") else None)
        if not value:
            raise BadMedia("the row holds no media")
        return value


def _holds_media(kind: pa.DataType) -> bool:
    """Bytes, or {bytes, path} with at least one of both."""
    if pa.types.is_struct(kind):
        return any(kind.field(i).name in ("bytes", "path") for i in range(kind.num_fields))
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


class _Stored(Protocol):
    """How a kind of table is read."""

    schema: pa.Schema
    count: int

    def read(self, columns: list[str]) -> pa.Table: ...

    def value(self, row: int, column: str) -> Any: ...


class _Parquet:
    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        self.schema, self.count = self._file.schema_arrow, self._file.metadata.num_rows
        sizes = [self._file.metadata.row_group(g).num_rows for g in range(self._file.num_row_groups)]
        self._starts = np.cumsum([0, *sizes])  # first row of each row group, and the end
        self._lock = threading.Lock()
        self._last: dict[int, pa.ChunkedArray] = {}  # the row groups read last

    def read(self, columns: list[str]) -> pa.Table:
        return self._file.read(columns=columns)

    def value(self, row: int, column: str) -> Any:
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        with self._lock:
            if group not in self._last:
                if len(self._last) > 1:
                    self._last.pop(next(iter(self._last)))
                self._last[group] = self._file.read_row_group(group, columns=[column])[column]
            return self._last[group][row - int(self._starts[group])].as_py()


class _Arrow:
    """A stream, as `save_to_disk` writes, or a file in Arrow's random-access form; mapped, not read."""

    def __init__(self, path: Path) -> None:
        source = pa.memory_map(str(path))
        try:
            self._table = pa.ipc.open_stream(source).read_all()
        except pa.ArrowInvalid:
            self._table = pa.ipc.open_file(source).read_all()
        self.schema, self.count = self._table.schema, len(self._table)

    def read(self, columns: list[str]) -> pa.Table:
        return self._table.select(columns)

    def value(self, row: int, column: str) -> Any:
        return self._table[column][row].as_py()


class _Lance:
    def __init__(self, path: Path) -> None:
        import lance  # here, because it is slow to import and few sources need it

        self._dataset = lance.dataset(path)
        self.schema, self.count = self._dataset.schema, self._dataset.count_rows()

    def read(self, columns: list[str]) -> pa.Table:
        return self._dataset.to_table(columns=columns)

    def value(self, row: int, column: str) -> Any:
        return self._dataset.take([row], columns=[column])[column][0].as_py()


class _Catalogue:
    """The clips of another catalogue, at the version that is finished; their media lie in a dataset beside."""

    def __init__(self, path: Path) -> None:
        import lance

        head = json.loads((path.parent / "catalogue.json").read_text())
        self._clips = lance.dataset(path, version=head["version"])
        self._media = lance.dataset(path.parent / "media.lance")
        self.schema, self.count = self._clips.schema.append(self._media.schema.field("media")), self._clips.count_rows()

    def read(self, columns: list[str]) -> pa.Table:
        return self._clips.to_table(columns=columns)

    def value(self, row: int, column: str) -> Any:
        clip = self._clips.take([row], columns=["address", "start"]).to_pylist()[0]
        if clip["start"] is not None:
            raise BadMedia("cut out of a longer file by another catalogue: curate that file")
        stored = self._media.take([clip["address"]], columns=["media", "path"])
        return stored["media"][0].as_py() or {"path": stored["path"][0].as_py()}
