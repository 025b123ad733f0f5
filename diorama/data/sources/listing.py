"""Where clips come from: folders of media with sidecars, and files that hold many clips.

`listing` names every clip that sources hold and what is said about it, without decoding anything; `fetch` gets the
bytes of one by its location alone.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes
from diorama.data.sources.containers import changed, container, is_container, is_labels
from diorama.data.sources.said import SIDECARS, merged, naming, said, sidecar
from diorama.media import BadMedia


@dataclass(frozen=True)
class Item:
    """A clip before anything is decoded."""

    location: str  # a file's absolute path, or `path#row` inside a container
    root: str  # the source, as listed, that it belongs to
    stamp: str  # changes when the stored bytes may have changed, or what is said about them
    said: dict[str, Any] = field(default_factory=dict)  # by the words of SAID; the rest as JSON under "more"


def _state(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} {changed(path) if S_ISDIR(found.st_mode) else found.st_mtime_ns}"


def _stamp(state: str, words: dict[str, Any]) -> str:
    return hash_bytes(f"{state} {sorted(words.items())}".encode(), 8)


def _is_catalogue(folder: Path) -> bool:
    return (folder / "catalogue.json").exists() and (folder / "clips.lance").is_dir()


def _passed(folder: Path, skip: Path | None) -> bool:
    """Whether a folder inside a source is passed over."""
    return folder == skip or _is_catalogue(folder)


def _text(path: Path) -> str:
    """A text file, without the mark that Excel and Windows editors put first."""
    return path.read_text(encoding="utf-8-sig", errors="replace")


def _folder(root: Path, skip: Path | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every file under `root` that is no sidecar, with all that sidecars say about it.

    Where two say different things, the nearer one is right: `NAME.txt` before any table, a table in a deeper folder
    before one further up, then the last table by name, then the last row. A `NAME.txt` without words says nothing.

    Of a catalogue, its clips are what it holds; one that lies in a folder further down is passed over, since what it
    was made of may well lie beside it.
    """
    found: list[Path] = []
    words: dict[Path, dict[str, Any]] = {}
    captions: dict[Path, str] = {}  # by path without suffix
    sidecars: set[Path] = set()
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not _passed(Path(folder, f), skip))
        if Path(folder) == root and _is_catalogue(root):
            folders[:], names = ["clips.lance"], []
        tables = [f for f in folders if is_container(Path(folder, f))]  # a Lance table is a folder
        folders[:] = [f for f in folders if f not in tables]
        paths = [Path(folder, name) for name in sorted([*names, *tables]) if not name.startswith(".")]
        stems = {p.stem for p in paths if p.suffix != ".txt"}
        for path in paths:
            if path.suffix in SIDECARS and (rows := sidecar(_text(path), path)):
                sidecars.add(path)
                for number, row in enumerate(rows, 1):
                    row = dict(row)
                    file = path.parent / row.pop(naming(row))
                    words[file] = merged(words.get(file, {}), said(row, f"{path} row {number}"))
            elif path.suffix == ".txt" and path.stem in stems:
                sidecars.add(path)
                captions[path.with_suffix("")] = _text(path).strip()
            else:
                found.append(path)
    for path in sorted({*found, *words} - sidecars):
        caption = captions.get(path.with_suffix(""))
        yield path, words.get(path, {}) | ({"caption": caption} if caption else {})


def listing(root: Path, skip: Path | None = None) -> Iterator[Item]:
    """Every clip of the folder or file `root`, in a fixed order; the folder `skip`, and catalogues that lie inside of
    `root`, are passed over.

    A file that no decoder can read is listed as well: curation records why. Raises `UserError` when `root` is missing
    or a sidecar is malformed.
    """
    root = Path(os.path.abspath(root))
    if not root.exists():
        raise UserError(f"there is no file or folder {root}")
    for path, words in _files(root, skip):
        try:
            file = _state(path)
        except (OSError, ValueError):  # away, or no name that a file may have
            yield Item(str(path), str(root), "missing", words)
            continue
        if not is_container(path):
            yield Item(str(path), str(root), _stamp(file, words), words)
            continue
        if is_labels(path):
            continue
        try:
            rows = container(path).rows()
        except BadMedia:
            yield Item(str(path), str(root), _stamp(file, {}))
            continue
        for number, row in enumerate(rows):
            spoken = merged(words, said(row, f"{path} row {number}"))
            yield Item(f"{path}#{number:08d}", str(root), _stamp(file, spoken), spoken)


def state(root: Path, skip: Path | None = None) -> str | None:
    """What decides `listing(root, skip)`, as far as names, sizes and times tell; None where they do not tell all."""
    root = Path(os.path.abspath(root))
    if not root.is_dir():
        told = root.exists() and root.suffix not in SIDECARS  # a list names files that lie anywhere
        return hash_bytes(_state(root).encode()) if told else None
    digest = hashlib.blake2b(digest_size=16)
    folders = [str(root)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:  # as `os.walk` passes over it
            for entry in sorted(entries, key=lambda entry: entry.name):
                is_folder = entry.is_dir(follow_symlinks=False)
                if entry.name.startswith(".") or (is_folder and _passed(Path(entry.path), skip)):
                    continue
                if is_folder:
                    folders.append(entry.path)
                    digest.update(f"{entry.path}\n".encode(errors="surrogateescape"))
                else:
                    file = entry.stat(follow_symlinks=os.path.exists(entry.path))
                    text = f"{entry.path} {file.st_size} {file.st_mtime_ns}\n"
                    digest.update(text.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(root: Path, skip: Path | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The files of a source, with what is said about them: a folder's, those that a list names, or itself."""
    if root.is_dir() and not is_container(root):
        yield from _folder(root, skip)
    elif root.suffix in SIDECARS and (rows := sidecar(_text(root), root)):
        for number, row in enumerate(rows, 1):
            row = dict(row)
            yield root.parent / row.pop(naming(row)), said(row, f"{root} row {number}")
    elif root.suffix in (*SIDECARS, ".parquet") and root.is_file() and _addresses(root):
        raise UserError(
            f"{root} is a list of web addresses, which curation does not fetch: run 'diorama fetch {root} --out FOLDER "
            "--contact YOU', then curate FOLDER"
        )
    elif root.suffix in SIDECARS and root.is_file():
        raise UserError(f"{root} holds no clips: a list has a row for each, which names its file under 'file_name'")
    else:
        yield root, {}


def _addresses(path: Path) -> bool:
    from diorama.data.sources.web import names_addresses  # here, because decoding workers import this module

    return names_addresses(path)


def file_of(location: str) -> str:
    """The file, or place in a container, that a clip is cut from: `FILE@20-45`, frames 20 to 44, is of FILE."""
    whole, mark, frames = location.rpartition("@")
    first, dash, end = frames.partition("-")
    return whole if mark and dash and first.isdigit() and end.isdigit() and not os.path.exists(location) else location


def is_there(location: str) -> bool:
    """Whether the file that holds a clip exists."""
    location = file_of(location)
    return os.path.exists(location) or os.path.exists(location.rpartition("#")[0])


def fetch(location: str) -> Path | bytes:
    """The encoded media at an `Item.location`: a file's path, or the bytes held by a container.

    Of a clip cut from a longer file, that file. Raises `BadMedia` when it is gone or cannot be read.
    """
    location = file_of(location)
    path, mark, row = location.rpartition("#")
    if mark and row.isdigit() and is_container(path):
        if not os.path.exists(path):
            raise BadMedia("the file is gone")
        return container(Path(path)).fetch(int(row))
    if not os.path.exists(location):
        raise BadMedia("there is no such file")
    if is_container(location):
        container(Path(location)).rows()  # says why it could not be listed
    return Path(location)
