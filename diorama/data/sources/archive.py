"""Archives of media: ZIP and TAR, compressed or not, among them the shards of WebDataset."""

import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from diorama.data.sources.said import SIDECARS, naming, sidecar
from diorama.media import BadMedia
from diorama.media.media import short

MEMBER = 1 << 30  # bytes of one file in an archive, at most: its bytes are held in memory
TEXT = 64 << 20  # of one that says things about others
_SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_SAYING = (".txt", ".json", ".cls")  # KEY.txt, KEY.json and KEY.cls speak of the media KEY.* beside them (WebDataset)


@contextmanager
def guarded() -> Iterator[None]:
    """Whatever a library raises over damaged bytes becomes `BadMedia`."""
    try:
        yield
    except BadMedia:
        raise
    except Exception as error:  # zipfile, zlib, NumPy and Arrow each have errors of their own
        raise BadMedia(f"not readable: {short(error)}") from None


def is_archive(path: Path | str) -> bool:
    """Whether a file of this name is an archive."""
    return str(path).lower().endswith(_SUFFIXES)


class Archive:
    """The media files of an archive, in their order, and what the text files among them say.

    As in a folder, `*.jsonl`, `*.json` and `*.csv` that name files say things about those; as in WebDataset, KEY.txt is
    the caption of KEY.*, KEY.cls its label, and KEY.json says the rest. Raises `BadMedia` for a damaged or encrypted
    archive, and one without media.
    """

    @guarded()
    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: Any = zipfile.ZipFile(path) if path.name.lower().endswith(".zip") else tarfile.open(path)  # noqa: SIM115
        names = [(self._name(m), m) for m in self._members() if not PurePosixPath(self._name(m)).name.startswith(".")]
        texts = {PurePosixPath(name): m for name, m in names if name.endswith((*SIDECARS, *_SAYING))}
        self.media = [(PurePosixPath(name), m) for name, m in names if PurePosixPath(name) not in texts]
        if not self.media:
            raise BadMedia("an archive without media")
        self._words = self._spoken(texts)

    def rows(self) -> list[dict[str, Any]]:
        """What is said of each media file, and its name in the archive."""
        return [{"member": str(path), **self._words.get(path, {}), **self._words.get(_key(path), {})}
                for path, _ in self.media]  # fmt: skip

    @guarded()
    def fetch(self, row: int) -> bytes:
        """The bytes of media file number `row`. Raises `BadMedia`."""
        return self._read(self.media[row][1])

    def _spoken(self, texts: dict[PurePosixPath, Any]) -> dict[PurePosixPath, dict[str, Any]]:
        """What text files say, by the file named in them, or by the key they share with it."""
        keys = {_key(path) for path, _ in self.media}
        words: dict[PurePosixPath, dict[str, Any]] = {}
        for path, member in texts.items():
            text = self._read(member, TEXT).decode("utf-8-sig", errors="replace")
            key, rows = _key(path), sidecar(text, Path(path)) if path.suffix in SIDECARS else []
            for row in rows:
                row = dict(row)
                words.setdefault(path.parent / row.pop(naming(row)), {}).update(row)
            if rows or key not in keys:
                continue
            if path.suffix == ".txt":
                words.setdefault(key, {})["caption"] = text.strip()
            elif path.suffix == ".cls":
                words.setdefault(key, {})["label"] = text.strip()
            elif isinstance(said := _object(text), dict):
                words.setdefault(key, {}).update(said)
        return words

    def _members(self) -> list[Any]:
        if isinstance(self._file, zipfile.ZipFile):
            return [m for m in self._file.infolist() if not m.is_dir()]
        return [m for m in self._file.getmembers() if m.isfile()]

    @staticmethod
    def _name(member: Any) -> str:
        return member.filename if isinstance(member, zipfile.ZipInfo) else member.name

    def _read(self, member: Any, most: int = MEMBER) -> bytes:
        size = member.file_size if isinstance(member, zipfile.ZipInfo) else member.size
        if size > most:
            raise BadMedia(f"{size / 1e6:.0f} MB in an archive: unpack it")
        with self._lock:
            if isinstance(self._file, zipfile.ZipFile):
                return self._file.read(member)
            with self._file.extractfile(member) as file:
                return file.read()


def _key(path: PurePosixPath) -> PurePosixPath:
    """The path up to the first dot of its name, by which WebDataset groups."""
    return path.with_name(path.name.split(".")[0])


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
