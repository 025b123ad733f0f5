"""The other end of `guard`: a process that decodes one file after another and may die doing so.

Run as `python -m diorama.media.worker FD MEMORY`. Messages are pickles with their arrays beside them, so that
pixels cross without another copy.
"""

import contextlib
import os
import pickle
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from diorama.media.media import BadMedia
from diorama.media.read import read

GRACE = 5.0  # seconds by which a worker outlives its parent's patience, should the parent be gone


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
            channel.recv_bytes_into(memoryview(buffer))
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
            source, limits, options, apply = receive(channel)
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, limits.timeout + GRACE)  # the default action ends even a hung decoder
        try:
            result = read(source, limits, **options)
            result = apply(result) if apply else result
        except BadMedia as bad:
            result = bad
        except MemoryError:
            result = BadMedia("needs more memory than allowed")
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(BrokenPipeError):
            send(channel, result)
        del result


if __name__ == "__main__":
    main()
