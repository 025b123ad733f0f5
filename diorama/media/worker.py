"""The other end of `guard`: a process that decodes one file after another and may die doing so.

`main` is run with two arguments: the number of an open socket, and bytes of memory. Messages are pickles with their
arrays beside them, so that pixels cross without another copy.
"""

import contextlib
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from diorama.media.media import BadMedia, Limits, Media, Overrun
from diorama.media.read import Source, read

GRACE = 1.0  # seconds beyond the limit that `read` checks between frames; then the worker's own alarm ends it


@dataclass(frozen=True)
class Failure:
    """What `apply` raised, as text; the parent raises it again."""

    traceback: str


def send(channel: Connection, message: Any) -> None:
    """Send any picklable object; large arrays go as they lie in memory."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    channel.send_bytes(pickle.dumps((head, [view.nbytes for view in views])))
    for view in views:
        if view.nbytes:
            channel.send_bytes(view)


def receive(channel: Connection) -> Any:
    """The next object; EOFError when the other end is gone."""
    head, sizes = pickle.loads(channel.recv_bytes())
    buffers = [np.empty(size, np.uint8) for size in sizes]
    for buffer in buffers:
        if buffer.nbytes:
            channel.recv_bytes_into(buffer.data)
    return pickle.loads(head, buffers=buffers)


def limit_memory(allowance: int) -> None:
    """Let this process map `allowance` bytes more than it has now, where the system can hold to that (Linux)."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (now + allowance, now + allowance))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        pass


def main() -> None:
    """Serve until the parent closes the channel."""
    channel = Connection(int(sys.argv[1]))
    limit_memory(int(sys.argv[2]))
    send(channel, "ready")
    while True:
        try:
            sources, limits, options, apply = receive(channel)
        except EOFError:
            return
        answers = []
        for source in sources:
            signal.setitimer(signal.ITIMER_REAL, limits.timeout + GRACE)  # its default action ends even a hung decoder
            answers.append(_answer(source, limits, options, apply))
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(BrokenPipeError):
            send(channel, answers)
        del answers, sources, source  # before the next file takes its memory


def _answer(source: Source, limits: Limits, options: dict[str, Any], apply: Callable[[Media], Any] | None) -> Any:
    try:
        media = read(source, limits, **options)
        return apply(media) if apply else media
    except BadMedia as bad:
        return bad
    except MemoryError:
        return Overrun("needs more memory than there is")
    except Exception:  # a mistake in `apply`, not in the file
        return Failure(traceback.format_exc())
