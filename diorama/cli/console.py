"""What commands say, and what libraries are kept from saying."""

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
