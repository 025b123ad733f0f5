"""Files that are never half written, and names that come from content."""

import functools
import glob
import hashlib
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diorama.core.errors import UserError


@contextmanager
def write_aside(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path of the same name; rename it to `path` when the block succeeds, remove it when it fails.

    It lies in a hidden folder beside `path`, so that no pattern such as `*.npy` finds a half-written file. A folder
    works as well as a file: an existing folder at `path` is replaced. What a killed process left is removed by the
    next one that writes to the same folder. An `OSError` of the block, such as that of a full disk, names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    hidden = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}.tmp")
    shutil.rmtree(hidden, ignore_errors=True)  # of a killed process with our number
    hidden.mkdir()
    aside = hidden / path.name
    try:
        yield aside
        if aside.is_dir() and path.is_dir():
            shutil.rmtree(path)
        os.replace(aside, path)
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(str(hidden)):
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


_HOST = platform.node().replace(".", "-")  # a process number says nothing on another machine


@functools.cache
def _sweep(folder: Path) -> None:
    """Remove what processes of this machine that live no more left half-written in `folder`; once a process."""
    for left in folder.glob(f".*.{glob.escape(_HOST)}.*.tmp"):
        process = left.suffixes[-2][1:]
        if process.isdigit() and not _lives(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` at once or not at all."""
    with write_aside(path) as aside:
        aside.write_text(text)


@contextmanager
def sole_writer(folder: Path | str, doing: str) -> Iterator[None]:
    """Hold `folder` against other processes of this machine that ask for it in the same way.

    Raises `UserError` at once when one has it; a process that dies lets go. Where the file system has no locks, nothing
    is held.
    """
    import fcntl  # here, because only POSIX has it

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(f"process {file.read() or '?'} is {doing} {folder}: wait until it is done") from None
        except OSError:
            yield
            return
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def hash_file(path: Path | str) -> str:
    """The content hash of a file. Raises `UserError` where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def hash_bytes(data: bytes, size: int = 16) -> str:
    """BLAKE2b of `data` as `2 * size` hexadecimal digits: the identity of content everywhere in Diorama."""
    return hashlib.blake2b(data, digest_size=size).hexdigest()
