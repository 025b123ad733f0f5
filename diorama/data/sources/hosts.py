"""What waits to be asked of which host, handed out no faster than each host may be asked."""

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from diorama.data.sources.robots import Robots
from diorama.data.sources.transfer import Failure, address


@dataclass(frozen=True)
class Task:
    """One address to be asked for. listed: as the list has it; url: where redirects led; attempt: from 1."""

    listed: str
    url: str
    hops: int = 0
    attempt: int = 1

    @property
    def host(self) -> str:
        parts = address(self.url)
        return f"{parts.scheme}://{parts.netloc}"


@dataclass
class Host:
    """What waits for one host, and when it may be asked next. robots: None before it was read."""

    free: int
    delay: float
    queue: deque[Task] = field(default_factory=deque)
    next: float = 0.0
    tries: int = 0
    robots: Robots | Failure | None = None


class Queue:
    """Tasks by host, handed out as each host may be asked."""

    def __init__(self, per_host: int, delay: float) -> None:
        self._new, self._hosts, self._due = (per_host, delay), dict[str, Host](), list[tuple[float, str]]()
        self._left, self._stopped, self._changed = 0, False, threading.Condition()

    def put(self, task: Task) -> None:
        """Wait in line. Raises `Failure` for what is no web address."""
        self._line(task, deque.append)

    def put_first(self, task: Task) -> None:
        """Wait, but before all others for that host. Raises as `put` does."""
        self._line(task, deque.appendleft)

    def take(self) -> tuple[Task, Host] | None:
        """The next task and its host, once there is one; None when all are done."""
        with self._changed:
            while self._left and not self._stopped:
                now = time.monotonic()
                if not self._due or self._due[0][0] > now:
                    self._changed.wait(self._due[0][0] - now if self._due else None)
                    continue
                name = heapq.heappop(self._due)[1]
                host = self._hosts[name]
                if host.queue and host.free and host.next <= now:
                    host.free -= 1
                    host.next = now + host.delay
                    task = host.queue.popleft()
                    self._call(name, host)
                    return task, host
                if host.queue and host.free:
                    self._call(name, host)
            self._changed.notify_all()
            return None

    def done(self, task: Task, host: Host, wait: float) -> None:
        """A task was dealt with (and put in line again, if need be); its host rests for `wait` seconds at least."""
        with self._changed:
            self._left -= 1
            host.free += 1
            host.next = max(host.next, time.monotonic() + max(wait, host.delay))
            self._call(task.host, host)

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _line(self, task: Task, join: Callable[[deque[Task], Task], None]) -> None:
        name = task.host
        with self._changed:
            host = self._hosts.setdefault(name, Host(*self._new))
            join(host.queue, task)
            self._left += 1
            self._call(name, host)

    def _call(self, name: str, host: Host) -> None:
        if host.queue and host.free:
            heapq.heappush(self._due, (host.next, name))
        self._changed.notify_all()
