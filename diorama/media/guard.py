"""Reading files nobody vouches for: in worker processes with a memory limit and a wall time limit.

Workers are plain child processes started by name, not by `multiprocessing`: nothing of the caller's program is
imported again, so they are small, start in a quarter of a second and never load JAX.

The memory limit is one of address space, where what a worker loaded and left in pieces for earlier files counts too.
So a file is refused for memory only after a worker of its own had too little.

Small files go to a worker several at a time, since a message takes as long as a small picture. Where one of them ends
the worker, all are read again, each by itself.
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
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
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
TOGETHER, SMALL = 8, 1 << 20  # files a message, and their bytes
HELD = 256 << 20  # bytes of files taken whose results are not given yet


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
        function), and its module is imported by the workers. Sources are taken ahead, a few for every worker.
        """
        jobs = _jobs(sources, limits or self.limits, options, apply)
        most = 4 * len(self._workers) * (TOGETHER if apply else 1)
        todo: deque[_Job] = deque()
        busy: dict[int, _Job] = {}  # by worker
        done: dict[int, Any] = {}  # by source
        waiting: deque[int] = deque()  # bytes of what is taken and not given
        given = 0

        def take() -> bool:
            """Have one job more to do, if there is one and not too much is under way."""
            if waiting and (len(waiting) >= most or sum(waiting) >= HELD):
                return False
            job = next(jobs, None)
            if job:
                todo.append(job)
                waiting.extend(len(source) if isinstance(source, bytes) else 0 for source in job.sources)
            return job is not None

        try:
            while True:
                for slot in range(len(self._workers)):
                    if slot not in busy and (todo or take()):
                        job = busy[slot] = todo.popleft()
                        self._start(slot).ask(job)
                if not todo:
                    take()  # while the workers work
                while given in done:
                    yield done.pop(given)
                    waiting.popleft()
                    given += 1
                if busy:
                    for slot, answered in self._wait(busy):
                        job = busy.pop(slot)
                        for nth, answer in enumerate(self._finish(slot, answered, len(job.sources))):
                            if isinstance(answer, Failure):
                                raise RuntimeError(f"apply failed in a decoding worker:\n{answer.traceback}")
                            if answer is _AGAIN:
                                todo.appendleft(job.only(nth))
                            else:
                                done[job.first + nth] = answer
                elif not todo and not take():
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

    def _finish(self, slot: int, answered: bool, asked: int) -> list[Any]:
        """The answers, or why there are none; `_AGAIN` where a file is to be read by itself, or by a new worker."""
        worker = self._workers[slot]
        assert worker is not None
        try:
            if answered:
                answers = receive(worker.channel)
                if not any(isinstance(answer, Overrun) for answer in answers):
                    return answers
                self._stop(slot)
                return [_AGAIN if isinstance(a, Overrun) and worker.files > 1 else a for a in answers]
            reason = f"decoding took longer than {worker.patience:g} seconds"
        except (EOFError, OSError):
            reason = "the decoder crashed"
        self._stop(slot)
        if worker.process.returncode == -signal.SIGALRM:
            reason = f"decoding took longer than {worker.patience:g} seconds"
        return [Overrun(reason) if asked == 1 else _AGAIN] * asked


@dataclass(frozen=True)
class _Job:
    """What a worker is asked at a time; `first` is the number of the first source."""

    first: int
    sources: list[Source]
    limits: Limits
    options: dict[str, Any]
    apply: Callable[[Media], Any] | None

    def only(self, nth: int) -> "_Job":
        return replace(self, first=self.first + nth, sources=[self.sources[nth]])


def _jobs(
    sources: Iterable[Source], limits: Limits, options: dict[str, Any], apply: Callable[[Media], Any] | None
) -> Iterator[_Job]:
    """Small files whose bytes are here and whose results are small go together, every other by itself."""
    some: list[Source] = []
    first = size = 0
    for source in sources:
        small = len(source) if apply and isinstance(source, bytes) else SMALL
        if some and (len(some) == TOGETHER or size + small > SMALL):
            yield _Job(first, some, limits, options, apply)
            first, some, size = first + len(some), [], 0
        some.append(_plain(source))
        size += small
    if some:
        yield _Job(first, some, limits, options, apply)


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

    def ask(self, job: _Job) -> None:
        """Give it files. The first time waits until it is up, so that a broken installation blames no file."""
        try:
            self.ready = self.ready or (self.channel.poll(60) and receive(self.channel) == "ready")
        except (EOFError, OSError):
            self.ready = False
        if not self.ready:
            self.kill()
            raise RuntimeError("a decoding worker did not start: does `import diorama.media` work in a new process?")
        self.files += len(job.sources)
        self.patience = job.limits.timeout
        self.deadline = time.monotonic() + len(job.sources) * self.patience + BACKSTOP
        send(self.channel, (job.sources, job.limits, job.options, job.apply))

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
