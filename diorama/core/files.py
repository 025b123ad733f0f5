"""Files that are never half written, and names that come from content."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def write_aside(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place when the block succeeds, remove it when it fails.

    The temporary name keeps the suffix, because encoders choose a container by it. A folder works as well as a
    file: an existing folder at `path` is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield aside
        if aside.is_dir() and path.is_dir():
            shutil.rmtree(path)
        os.replace(aside, path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` at once or not at all."""
    with write_aside(path) as aside:
        aside.write_text(text)


def hash_bytes(data: bytes, size: int = 16) -> str:
    """BLAKE2b of `data` as `2 * size` hexadecimal digits: the identity of content everywhere in Diorama."""
    return hashlib.blake2b(data, digest_size=size).hexdigest()
