"""What commands say, and what libraries are kept from saying."""

import errno
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def quiet() -> None:
    """Let libraries (absl, grain, orbax, XLA) speak of errors only. To be called before JAX is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's C++ side; 3 leaves what is fatal
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    handler = logging.StreamHandler()
    handler.setLevel(logging.ERROR)
    logging.basicConfig(handlers=[handler])
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def say(text: str = "") -> None:
    """A line of results, on standard output."""
    print(text, flush=True)


def complain(text: str) -> None:
    """A sentence about what went wrong, on standard error."""
    print(f"diorama: {text}", file=sys.stderr, flush=True)


_GO_ON = "make room there, then run the same command again"
_NO_RIGHT = "name another place, or change who may read and write there"
_OTHER_KIND = "a file lies where a folder is to be, or a folder where a file: name another place"
_MENDED = {
    errno.ENOSPC: _GO_ON, errno.EDQUOT: _GO_ON, errno.EFBIG: _GO_ON,
    errno.EACCES: _NO_RIGHT, errno.EPERM: _NO_RIGHT, errno.EROFS: _NO_RIGHT,
    errno.ENOENT: "name another place", errno.ENAMETOOLONG: "name another place",
    errno.EEXIST: _OTHER_KIND, errno.ENOTDIR: _OTHER_KIND, errno.EISDIR: _OTHER_KIND,
}  # fmt: skip

_OF_FILES = {errno.ENOENT, errno.EACCES, errno.EPERM}  # or of a port, and the like: then nothing is known


def of_the_system(error: Exception) -> str | None:
    """What to say of an error that is a disk's or a folder's, as a full disk; None for one that may be a mistake here.

    Lance and DuckDB give no number, but the system's words.
    """
    number, file = getattr(error, "errno", None), getattr(error, "filename", None)
    if number is None and (isinstance(error, OSError) or type(error).__name__ == "IOException"):
        number = next((n for n in _MENDED if os.strerror(n) in str(error)), None)
    if number not in _MENDED or (number in _OF_FILES and not file):
        return None
    return f"{f'{file}: ' if file else ''}{os.strerror(number)}: {_MENDED[number]}"


def of_the_device(error: Exception) -> str | None:
    """What to say where a device's memory did not suffice; None for other errors."""
    if type(error).__name__ != "JaxRuntimeError" or "RESOURCE_EXHAUSTED" not in str(error):
        return None
    first = str(error).splitlines()[0].partition("RESOURCE_EXHAUSTED: ")[2]
    return (
        f"the device's memory does not suffice ({first.rstrip('.')}): give buckets a smaller batch or clips, set "
        "train.accumulate, or take narrower networks; attention over many cells takes the most"
    )


def command(*words: object) -> str:
    """A `diorama` command as one would type it."""
    return shlex.join(["diorama", *map(str, words)])


@contextmanager
def stoppable() -> Iterator[None]:
    """Says how to go on when training is told to stop; the exit code stays 128 + signal."""
    from diorama.train import Stopped

    try:
        yield
    except Stopped as stopped:
        complain(
            f"stopped after {stopped.examples:,} training examples of the {stopped.name}, which are saved; "
            f"to go on: {command(*sys.argv[1:])}"
        )
        raise
