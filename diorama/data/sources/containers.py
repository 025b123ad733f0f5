"""Files that hold many clips: tables of encoded media, archives, and IDX and NPZ arrays.

Arrays become PNG, and a video out of an array becomes a *strip*: its frames side by side in one picture, `frame_width`
pixels each, which is also how some data sets ship theirs.
"""

import functools
import gzip
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from diorama.data.sources.archive import Archive, guarded, is_archive
from diorama.data.sources.tables import TABLES, table
from diorama.media import BadMedia


class Container(Protocol):
    """Clips in one file, numbered."""

    def rows(self) -> list[dict[str, Any]]:
        """What is said of each clip. Raises `BadMedia`."""

    def fetch(self, row: int) -> bytes | Path:
        """One clip's encoded media, or the file that holds it. Raises `BadMedia`."""


_IDX = ("ubyte", "ubyte.gz")
_ENDS = (".npz", *_IDX, *TABLES)


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


@functools.lru_cache(maxsize=4)
@guarded()
def _open(path: Path, changed: int) -> Container:
    """The container at `path`; `changed` (its time of change) keeps a changed file from being served stale."""
    if is_archive(path):
        return Archive(path)
    if path.suffix in TABLES:
        return table(path)
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


def container(path: Path) -> Container:
    """What holds the clips of the file at `path`. Raises `BadMedia` when it is damaged or holds none."""
    return _open(path, changed(path))


def changed(path: Path) -> int:
    """When a file was last changed, in nanoseconds; of a Lance table, when it was last written to."""
    versions = path / "_versions"
    return max(p.stat().st_mtime_ns for p in (path, versions) if p.exists())


def is_container(path: Path | str) -> bool:
    """Whether a file of this name holds many clips; of folders, a Lance table does."""
    name = str(path)  # asked of every file: to take its path apart takes ten times as long
    named = name.endswith(_ENDS) or is_archive(name)
    return named and (name.endswith(".lance") or not os.path.isdir(name))  # the disk is asked for few


def is_labels(path: Path) -> bool:
    """Whether an IDX file only labels the images of another one."""
    images = path.with_name(path.name.replace("labels", "images").replace("idx1", "idx3"))
    return path.name.endswith(_IDX) and "labels" in path.name and images.exists()
