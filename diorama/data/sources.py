"""Where clips come from: folders of media with sidecars, Parquet tables of encoded media, IDX and NPZ arrays.

`listing` names every clip that sources hold and what is said about it, without decoding anything; `fetch` gets the
bytes of one by its location alone. Arrays become PNG, and a video out of an array becomes a *strip*: its frames side
by side in one picture, `frame_width` pixels each, which is also how some data sets ship theirs.
"""

import csv
import functools
import gzip
import io
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes
from diorama.media import BadMedia
from diorama.media.media import short

# What may be said about a clip: our word, its type, and the words that people use for it.
SAID: dict[str, tuple[pa.DataType, tuple[str, ...]]] = {
    "caption": (pa.string(), ("caption", "text", "prompt")),
    "label": (pa.int32(), ("label", "action", "class")),
    "class_name": (pa.string(), ("class_name", "category")),
    "actions": (pa.list_(pa.int32()), ("actions",)),
    "split": (pa.string(), ("split",)),
    "group": (pa.string(), ("group", "person", "youtube_id")),  # only splits that are said divide one
    "rate": (pa.float64(), ("rate", "fps")),
    "frame_width": (pa.int32(), ("frame_width",)),
    "licence": (pa.string(), ("licence", "license")),
    "origin": (pa.string(), ("origin", "url", "source_url")),
    "author": (pa.string(), ("author",)),
    "terms": (pa.string(), ("terms",)),
}
_FILE = ("file_name", "file", "video", "image", "path")  # how a sidecar's row names its file
_MEDIA = ("image", "video", "media", "bytes", "jpg", "png", "mp4")  # how a Parquet column of media is called
_SIDECARS = (".jsonl", ".json", ".csv")


@dataclass(frozen=True)
class Item:
    """A clip before anything is decoded."""

    location: str  # a file's absolute path, or `path#row` inside a container
    root: str  # the source, as listed, that it belongs to
    stamp: str  # changes when the stored bytes may have changed, or what is said about them
    said: dict[str, Any] = field(default_factory=dict)  # by the words of SAID; the rest as JSON under "more"


def said(row: dict[str, Any], where: str) -> dict[str, Any]:
    """What a sidecar's row says, in our words. Raises `UserError` naming `where` for a value of the wrong kind."""
    row = {key: value for key, value in row.items() if value is not None and value != ""}
    out: dict[str, Any] = {}
    for name, (kind, words) in SAID.items():
        word = next((w for w in words if w in row), None)
        if word is None:
            continue
        value = row.pop(word)
        try:
            if pa.types.is_string(kind):
                out[name] = str(value)
            elif name == "label" and isinstance(value, str) and not value.lstrip("-").isdigit():
                out.setdefault("class_name", value)  # a class by name
            elif pa.types.is_list(kind):
                out[name] = [int(v) for v in (json.loads(value) if isinstance(value, str) else value)]
            else:
                out[name] = int(value) if pa.types.is_integer(kind) else float(value)
        except (TypeError, ValueError):
            raise UserError(f"{where}: '{word}' cannot be {value!r}: it takes {kind}") from None
    if row:
        out["more"] = json.dumps(row, sort_keys=True, default=str)
    return out


def _stamp(path: Path, words: dict[str, Any]) -> str:
    stat = path.stat()
    return hash_bytes(f"{stat.st_size} {stat.st_mtime_ns} {sorted(words.items())}".encode(), 8)


# ---- folders ----


def _text(path: Path) -> str:
    """A text file, without the mark that Excel and Windows editors put first."""
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a possible sidecar, or none when it is another kind of file."""
    text = _text(path)
    rows: list[Any] = []
    if path.suffix == ".csv":
        table = csv.DictReader(io.StringIO(text))
        try:
            if not {*(table.fieldnames or ())} & {*_FILE}:
                return []
            for row in table:
                if any(row.pop(None, ())):
                    where = f"{path} line {table.line_num}"
                    raise UserError(f"{where} has more values than headers: put text that holds commas in quotes")
                rows.append(row)
        except csv.Error as error:
            if not rows:
                return []
            raise UserError(f"{path} is no CSV after line {table.line_num} ({error}): mend what follows") from None
    elif path.suffix == ".json":
        try:
            rows = json.loads(text)
        except ValueError:
            return []
    else:
        for number, line in enumerate(text.split("\n"), 1):  # splitlines would cut at U+2028, which JSON may hold
            try:
                rows += [json.loads(line)] if line.strip() else []
            except ValueError:
                if not rows:
                    return []
                raise UserError(f"{path} line {number} is not JSON: mend or remove that line") from None
    sidecar = isinstance(rows, list) and all(isinstance(r, dict) and _naming(r) for r in rows)
    return rows if sidecar else []


def _naming(row: dict[str, Any]) -> str:
    """The key under which a row names its file, or "" when it names none."""
    return next((key for key in _FILE if isinstance(row.get(key), str)), "")


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What both say; `new` is right where they differ."""
    more = json.loads(old.get("more", "{}")) | json.loads(new.get("more", "{}"))
    return old | new | ({"more": json.dumps(more, sort_keys=True)} if more else {})


def _folder(root: Path, skip: Path | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every file under `root` that is no sidecar, with all that sidecars say about it.

    Where two say different things, the nearer one is right: `NAME.txt` before any table, a table in a deeper folder
    before one further up, then the last table by name, then the last row. A `NAME.txt` without words says nothing.
    """
    found: list[Path] = []
    words: dict[Path, dict[str, Any]] = {}
    captions: dict[Path, str] = {}  # by path without suffix
    sidecars: set[Path] = set()
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and Path(folder, f) != skip)
        paths = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
        stems = {p.stem for p in paths if p.suffix != ".txt"}
        for path in paths:
            if path.suffix in _SIDECARS and (rows := _rows(path)):
                sidecars.add(path)
                for number, row in enumerate(rows, 1):
                    row = dict(row)
                    file = path.parent / row.pop(_naming(row))
                    words[file] = _merged(words.get(file, {}), said(row, f"{path} row {number}"))
            elif path.suffix == ".txt" and path.stem in stems:
                sidecars.add(path)
                captions[path.with_suffix("")] = _text(path).strip()
            else:
                found.append(path)
    for path in sorted({*found, *words} - sidecars):
        caption = captions.get(path.with_suffix(""))
        yield path, words.get(path, {}) | ({"caption": caption} if caption else {})


# ---- containers: files that hold many clips ----


@contextmanager
def _guarded() -> Iterator[None]:
    """Whatever a library raises over damaged bytes becomes `BadMedia`."""
    try:
        yield
    except BadMedia:
        raise
    except Exception as error:  # zipfile, zlib, NumPy and Arrow each have errors of their own
        raise BadMedia(f"not readable: {short(error)}") from None


def _is_idx(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith("ubyte")


def _idx(path: Path) -> np.ndarray:
    """An IDX file's unsigned bytes (Y. LeCun's MNIST format), gzipped or not."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if data[:3] != b"\0\0\x08":
        raise BadMedia("not an IDX file of unsigned bytes")
    shape = np.frombuffer(data, ">u4", data[3], 4)
    if len(data) != 4 + 4 * len(shape) + np.prod(shape, dtype=np.int64):
        raise BadMedia("IDX file is cut short")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


@dataclass(frozen=True)
class _Arrays:
    """Clips out of an IDX or NPZ file: `media` is (n, h, w), (n, h, w, c), (n, t, h, w) or (n, t, h, w, c) uint8."""

    media: np.ndarray
    columns: dict[str, np.ndarray]

    def rows(self) -> list[dict[str, Any]]:
        width = {"frame_width": int(self._clips().shape[3])} if self._clips().shape[1] > 1 else {}
        names = self.columns.items()
        return [width | {name: values[i].tolist() for name, values in names} for i in range(len(self.media))]

    def _clips(self) -> np.ndarray:
        media = self.media
        if media.ndim == 3 or (media.ndim == 4 and media.shape[-1] not in (1, 3, 4)):
            media = media[..., None]
        return media if media.ndim == 5 else media[:, None]

    def fetch(self, row: int) -> bytes:
        t, h, w, c = self._clips()[row].shape
        strip = self._clips()[row].transpose(1, 0, 2, 3).reshape(h, t * w, c)
        if c >= 3:
            strip = strip[..., [2, 1, 0, 3][:c]]
        return cv2.imencode(".png", strip)[1].tobytes()


@dataclass(frozen=True)
class _Table:
    """Clips out of a Parquet file: one column of encoded bytes, or of {bytes, path}; the others say things."""

    path: Path
    file: pq.ParquetFile
    column: str
    starts: np.ndarray  # first row of each row group, and the end
    lock: Any = field(default_factory=threading.Lock)
    last: dict[int, pa.ChunkedArray] = field(default_factory=dict)  # the row groups read last

    @_guarded()
    def rows(self) -> list[dict[str, Any]]:
        schema = self.file.schema_arrow
        plain = [f.name for f in schema if f.name != self.column and not pa.types.is_binary(f.type)]
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        names = features.get("label", {}).get("names") if isinstance(features.get("label"), dict) else None
        rows = self.file.read(columns=plain).to_pylist() if plain else [{} for _ in range(self.starts[-1])]
        if names:
            rows = [{"class_name": names[r["label"]], **r} if r.get("label") is not None else r for r in rows]
        return rows

    @_guarded()
    def fetch(self, row: int) -> bytes | Path:
        group = int(np.searchsorted(self.starts, row, side="right")) - 1
        with self.lock:
            if group not in self.last:
                if len(self.last) > 1:
                    self.last.pop(next(iter(self.last)))
                self.last[group] = self.file.read_row_group(group, columns=[self.column])[self.column]
            value = self.last[group][row - int(self.starts[group])].as_py()
        if isinstance(value, dict):
            value = value.get("bytes") or (self.path.parent / value["path"] if value.get("path") else None)
        if not value:
            raise BadMedia("the row holds no media")
        return value


@functools.lru_cache(maxsize=4)
@_guarded()
def _open(path: Path, changed: int) -> _Arrays | _Table:
    """The container at `path`; `changed` (its time of change) keeps a changed file from being served stale."""
    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        names = [n for n in _MEDIA if n in file.schema_arrow.names]
        if not names:
            raise BadMedia("a Parquet file without a column of media")
        sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
        return _Table(path, file, names[0], np.cumsum([0, *sizes]))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        media = next((a for a in arrays.values() if a.dtype == np.uint8 and a.ndim in (3, 4, 5)), None)
        if media is None:
            raise BadMedia("an NPZ file without uint8 pictures (n, h, w[, c]) or videos (n, t, h, w, c)")
        columns = {n.removesuffix("s") if n in ("labels", "captions", "texts") else n: a
                   for n, a in arrays.items() if a is not media and a.shape[:1] == media.shape[:1]}  # fmt: skip
        return _Arrays(media, columns)
    media = _idx(path)
    if media.ndim != 3:
        raise BadMedia("an IDX file of labels, without its images")
    labels = _labels(path)
    columns = {"label": _idx(labels)} if labels else {}
    if labels and len(columns["label"]) != len(media):
        raise BadMedia(f"{len(media)} images but {len(columns['label'])} labels in {labels.name}")
    return _Arrays(media, columns)


def _labels(images: Path) -> Path | None:
    """The label file that belongs to an IDX file of images."""
    path = images.with_name(images.name.replace("images", "labels").replace("idx3", "idx1"))
    return path if path != images and path.exists() else None


def _container(path: Path) -> _Arrays | _Table:
    return _open(path, path.stat().st_mtime_ns)


def _is_container(path: Path) -> bool:
    return path.suffix in (".parquet", ".npz") or _is_idx(path)


# ---- the two functions that curation calls ----


def listing(root: Path, skip: Path | None = None) -> Iterator[Item]:
    """Every clip of the folder or file `root`, in a fixed order; the folder `skip` (a catalogue) is passed over.

    A file that no decoder can read is listed as well: curation records why. Raises `UserError` when `root` is missing
    or a sidecar is malformed.
    """
    root = Path(os.path.abspath(root))
    if not root.exists():
        raise UserError(f"there is no file or folder {root}")
    for path, words in _folder(root, skip) if root.is_dir() else [(root, {})]:
        if not path.exists():
            yield Item(str(path), str(root), "missing", words)
            continue
        if not _is_container(path):
            yield Item(str(path), str(root), _stamp(path, words), words)
            continue
        if (
            _is_idx(path)
            and "labels" in path.name
            and path.with_name(path.name.replace("labels", "images").replace("idx1", "idx3")).exists()
        ):
            continue
        try:
            rows = _container(path).rows()
        except BadMedia:
            yield Item(str(path), str(root), _stamp(path, {}))
            continue
        for number, row in enumerate(rows):
            words = said(row, f"{path} row {number}")
            yield Item(f"{path}#{number:08d}", str(root), _stamp(path, words), words)


def fetch(location: str) -> Path | bytes:
    """The encoded media at an `Item.location`: a file's path, or the bytes held by a container.

    Raises `BadMedia` when it is gone or cannot be read.
    """
    path, mark, row = location.rpartition("#")
    if mark and row.isdigit() and _is_container(Path(path)):
        if not os.path.exists(path):
            raise BadMedia("the file is gone")
        return _container(Path(path)).fetch(int(row))
    if not os.path.exists(location):
        raise BadMedia("there is no such file")
    if _is_container(Path(location)):
        _container(Path(location)).rows()  # says why it could not be listed
    return Path(location)
