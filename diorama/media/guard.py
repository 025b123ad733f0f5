"""Reading files nobody vouches for: in worker processes with a memory limit and a wall time limit.

Workers are plain child processes started by name, not by `multiprocessing`: nothing of the caller's program is
imported again, so they are small, start in a quarter of a second and never load JAX.

The memory limit is one of address space, where what a worker loaded and left in pieces for earlier files counts too.
So a file is refused for memory only after a worker of its own had too little.
"""

import atexit
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from diorama.media.media import BadMedia, Limits, Media, Overrun
from diorama.media.read import Part, Source, Whole
from diorama.media.worker import Failure, receive, send

_AGAIN = object()
_MAIN = "from diorama.media.worker import main; main()"
SETTINGS = {  # environment of a worker
    "OPENBLAS_NUM_THREADS": "1",  # its buffers, one a thread, would count against the memory
    "OMP_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",  # the workers share the cores already
    # glibc: what one file was decoded into is kept for the next; to give it back and ask again takes nearly as long as
    # decoding a small picture.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
BACKSTOP = 20.0  # seconds beyond the limit: by then a worker's own alarm, set when it began, should have ended it
MEMORY = 1_600_000_000  # bytes a worker may map beyond its own start, so that its peak stays below 2 GB


class Reader:
    """A pool of guarded workers, reused from file to file; a worker that hangs or dies is replaced.

    A context manager, for one thread at a time. `options` of `read` and `map` are those of `diorama.media.read`.
    """

    def __init__(self, workers: int = 1, limits: Limits = Limits(), *, memory: int = MEMORY) -> None:  # noqa: B008
        self.limits, self.memory = limits, memory
        self._workers: list[_Worker | None] = [_Worker(memory) for _ in range(max(workers, 1))]

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, source: Source, limits: Limits | None = None, **options: Any) -> Media:
        """As `diorama.media.read`, in a worker: Media, or BadMedia raised, whatever the file does."""
        result = next(self.map([source], limits=limits, **options))
        if isinstance(result, BadMedia):
            raise result
        return result

    def map(
        self,
        sources: Iterable[Source],
        apply: Callable[[Media], Any] | None = None,
        limits: Limits | None = None,
        **options: Any,
    ) -> Iterator[Any]:
        """One result a source, in order: Media (or `apply(media)`) or BadMedia, returned and not raised.

        `apply` runs in the worker, so that only what it returns crosses over; it must be importable (a top-level
        function), and its module is imported by the workers. Sources are taken as workers become free.
        """
        limits = limits or self.limits
        todo = iter(sources)
        busy: dict[int, tuple[int, _Job]] = {}  # worker -> index of its file, and what it was asked
        done: dict[int, Any] = {}
        taken = given = 0
        exhausted = False
        try:
            while True:
                for slot in range(len(self._workers)):
                    if slot in busy or exhausted or taken - given >= 4 * len(self._workers):
                        continue
                    try:
                        source = next(todo)
                    except StopIteration:
                        exhausted = True
                        break
                    job = (_plain(source), limits, options, apply)
                    self._start(slot).ask(job)
                    busy[slot] = taken, job
                    taken += 1
                while given in done:
                    yield done.pop(given)
                    given += 1
                if busy:
                    for slot, answered in self._wait(busy):
                        index, job = busy.pop(slot)
                        result = self._finish(slot, answered)
                        if isinstance(result, Failure):
                            raise RuntimeError(f"apply failed in a decoding worker:\n{result.traceback}")
                        if result is _AGAIN:
                            self._start(slot).ask(job)
                            busy[slot] = index, job
                        else:
                            done[index] = result
                elif exhausted and given == taken:
                    return
        finally:
            for slot in busy:  # the caller stopped early: what is half done is of no use
                self._stop(slot)

    def close(self) -> None:
        """End all workers."""
        for slot in range(len(self._workers)):
            self._stop(slot)

    def _start(self, slot: int) -> "_Worker":
        worker = self._workers[slot]
        if worker is None or worker.process.poll() is not None:
            self._stop(slot)
            worker = self._workers[slot] = _Worker(self.memory)
        return worker

    def _stop(self, slot: int) -> None:
        if worker := self._workers[slot]:
            worker.kill()
        self._workers[slot] = None

    def _wait(self, busy: Iterable[int]) -> list[tuple[int, bool]]:
        """Slots that have an answer or are dead (True), or are out of time (False)."""
        workers = {slot: worker for slot in busy if (worker := self._workers[slot])}
        patience = min(worker.deadline for worker in workers.values()) - time.monotonic()
        poll = select.poll()
        for worker in workers.values():
            poll.register(worker.channel, select.POLLIN)
        ready = {number for number, _ in poll.poll(max(patience, 0) * 1000)}
        now = time.monotonic()
        found = [(slot, worker.channel.fileno() in ready, worker.deadline) for slot, worker in workers.items()]
        return [(slot, answered) for slot, answered, deadline in found if answered or deadline <= now]

    def _finish(self, slot: int, answered: bool) -> Any:
        """The answer, or why there is none; `_AGAIN` where a new worker may have the memory that this one lacked."""
        worker = self._workers[slot]
        assert worker is not None
        try:
            if answered:
                answer = receive(worker.channel)
                if isinstance(answer, Overrun):
                    self._stop(slot)
                    return answer if worker.files == 1 else _AGAIN
                return answer
            reason = f"decoding took longer than {worker.patience:g} seconds"
        except (EOFError, OSError):
            reason = "the decoder crashed"
        self._stop(slot)
        if worker.process.returncode == -signal.SIGALRM:
            reason = f"decoding took longer than {worker.patience:g} seconds"
        return Overrun(reason)


_Job = tuple[Source, Limits, dict[str, Any], Callable[[Media], Any] | None]


class _Worker:
    """One child process and the channel to it."""

    def __init__(self, memory: int) -> None:
        ours, theirs = socket.socketpair()
        path = {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, str(theirs.fileno()), str(memory)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # decoders chatter about what is wrong with a file
            env=os.environ | path | SETTINGS,
        )
        theirs.close()
        self.channel = Connection(ours.detach())
        self.patience = self.deadline = 0.0
        self.ready = False
        self.files = 0  # that it was asked for so far

    def ask(self, job: "_Job") -> None:
        """Give it a file. The first time waits until it is up, so that a broken installation blames no file."""
        try:
            self.ready = self.ready or (self.channel.poll(60) and receive(self.channel) == "ready")
        except (EOFError, OSError):
            self.ready = False
        if not self.ready:
            self.kill()
            raise RuntimeError("a decoding worker did not start: does `import diorama.media` work in a new process?")
        self.files += 1
        self.patience = job[1].timeout
        self.deadline = time.monotonic() + self.patience + BACKSTOP
        send(self.channel, job)

    def kill(self) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait()


def _plain(source: Source) -> Source:
    if isinstance(source, Part):
        return replace(source, source=_absolute(source.source))
    return _absolute(source)


def _absolute(source: Whole) -> str | bytes:
    return source if isinstance(source, bytes) else os.path.abspath(source)


_shared: dict[int, Reader] = {}  # by process: a forked child must not talk to its parent's worker
_lock = threading.Lock()


def read_guarded(source: Source, limits: Limits = Limits(), **options: Any) -> Media:  # noqa: B008
    """`diorama.media.read` in one guarded worker, kept for the life of this process. For many files use `Reader`."""
    with _lock:
        reader = _shared.get(os.getpid())
        if reader is None:
            reader = _shared[os.getpid()] = Reader()
            atexit.register(reader.close)
        return reader.read(source, limits, **options)
