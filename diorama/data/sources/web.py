"""Fetching what a list of web addresses names, politely, into a folder that `curate` reads.

Every host is asked at its own slow pace and only for what its robots.txt allows; what a server reserves from training
is left there. Every outcome is a line of a ledger in the folder, so a call that was killed goes on where it stopped,
and nothing is lost silently: a failure has its reason, and is tried again on demand only.
"""

import csv
import json
import mimetypes
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diorama.core.errors import UserError
from diorama.core.files import sole_writer, write_aside
from diorama.core.progress import progress
from diorama.data.sources.hosts import Host, Queue, Task
from diorama.data.sources.robots import Robots, reserved, robots, wishes
from diorama.data.sources.transfer import Failure, Reply, Request, address, jumped, opened

NAME = "diorama"  # by which robots.txt speaks to us
LEDGER = ".fetched.jsonl"  # hidden from curation, as the folder of half-fetched files is
PARTS = ".parts"
BACK_OFF = 2.0  # seconds before the second attempt; doubled before each further one
ROBOTS_BYTES = 500 << 10  # RFC 9309, section 2.5
_BUSY = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Manners:
    """How servers are treated.

    Args:
        contact: an e-mail or web address at which their owners reach who fetches; it is sent along.
        delay: seconds from the end of a request to the next one to that host; more where its robots.txt asks for it.
        per_host: requests to one host at once.
        at_once: requests to all of them at once.
        most_bytes: of one file.
        seconds: for one file.
        redirects: followed for one file; each is asked for under the manners for its own host.
        attempts: for one file, where it may help, each after a longer wait.
        longest_wait: seconds; a host that asks for a longer one is left alone until another call.
        private: whether addresses of this machine and of its network may be asked.

    Raises `UserError` where no contact is given.
    """

    contact: str
    delay: float = 1.0
    per_host: int = 1
    at_once: int = 16
    most_bytes: int = 64 << 20
    seconds: float = 60.0
    redirects: int = 5
    attempts: int = 4
    longest_wait: float = 120.0
    private: bool = False

    def __post_init__(self) -> None:
        reachable = "@" in self.contact or self.contact.startswith(("http://", "https://"))
        if not reachable or not self.contact.isascii() or not self.contact.isprintable():
            raise UserError(f"'{self.contact}' is no contact: give an e-mail or a web address of yours")

    def request(self, url: str, most: int | None = None) -> Request:
        """A request with these bounds."""
        agent = f"{NAME}/{version('diorama')} (+{self.contact})"
        return Request(url, agent, most or self.most_bytes, self.seconds, self.private)


@dataclass(frozen=True)
class Tally:
    """How many addresses of the list came to what; `failed` by reason, the commonest first. new: asked for just now."""

    asked: int
    fetched: int
    failed: dict[str, int]
    new: int

    def __str__(self) -> str:
        share = f" ({self.fetched / self.asked:.1%})" if self.asked else ""
        lines = [f"{self.fetched:,} of {self.asked:,} fetched{share}, {self.new:,} of them looked for by this call"]
        return "\n".join([*lines, *(f"  not fetched {count:,}: {reason}" for reason, count in self.failed.items())])


def fetch_list(path: Path, out: Path, manners: Manners, *, again: bool = False) -> Tally:
    """Bring what the addresses in the list `path` name into the folder `out`; what was fetched is not asked for again.

    The list is CSV, JSON lines or Parquet with a column `url`; its other columns (caption, licence, author, ...) go
    along into `out`/metadata.jsonl, beside when, from where and under which wishes of the server each file came. Files
    are named by the hash of their content. `again` also looks for what failed before. The list's rows are held in
    memory. Raises `UserError` for a list that is none.
    """
    wanted = {str(row["url"]).strip(): row for row in rows(path) if str(row.get("url", "")).strip()}
    if not wanted:
        raise UserError(f"{path} names no web address: it needs a column 'url'")
    with sole_writer(out, "fetching into"):
        shutil.rmtree(out / PARTS, ignore_errors=True)  # what a killed call left
        (out / PARTS).mkdir()
        known = _read(out / LEDGER)
        fresh = [url for url in wanted if _lacks(out, known.get(url), again)]
        try:
            with (out / LEDGER).open("a", encoding="utf-8") as ledger:
                for url in wanted.keys() & known.keys() - {*fresh}:
                    if known[url]["said"] != wanted[url]:  # the same file, but the list speaks of it otherwise now
                        _write(ledger, known, known[url] | {"said": wanted[url]})
                _Fetching(out, manners, wanted, known, ledger).run(fresh)
        finally:
            _sidecar(out, known)
            shutil.rmtree(out / PARTS, ignore_errors=True)
    failed = Counter(known[url]["reason"] for url in wanted if not known[url]["file"])
    return Tally(len(wanted), len(wanted) - failed.total(), dict(failed.most_common()), len(fresh))


def _lacks(out: Path, line: dict[str, Any] | None, again: bool) -> bool:
    """Whether an address is to be asked for, by its last line in the ledger."""
    return not (out / line["file"]).exists() if line and line["file"] else again or not line


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a list, by column names in small letters, without what is empty or binary. Raises `UserError`."""
    try:
        for number, row in enumerate(_raw(path), 1):
            if not isinstance(row, dict) or None in row:
                raise UserError(f"{path} row {number} does not fit its columns: mend it, with quotes around commas")
            there = {key.lower(): value for key, value in row.items() if not _empty(value)}
            yield json.loads(json.dumps(there, default=str))
    except OSError as error:
        raise UserError(f"the list {path} cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is no list in CSV, JSON lines or Parquet: {error}") from None


def names_addresses(path: Path) -> bool:
    """Whether a file is such a list, by its first row; one that also names files on disk, or holds media, is none."""
    from diorama.data.sources.said import naming
    from diorama.data.sources.tables import MEDIA

    try:
        first = {str(key).lower(): value for key, value in next(_raw(path), {}).items()}
    except (OSError, ValueError, AttributeError, csv.Error):
        return False
    return "url" in first and not naming(first) and not {*first} & {*MEDIA}


def _empty(value: Any) -> bool:
    return value in (None, "") or value != value or isinstance(value, bytes)


def _raw(path: Path) -> Iterator[Any]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    elif path.suffix == ".jsonl":
        with path.open(encoding="utf-8-sig") as file:
            yield from (json.loads(line) for line in file if line.strip())
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)
    else:
        raise ValueError("its name ends in none of .csv, .jsonl and .parquet")


def _read(ledger: Path) -> dict[str, dict[str, Any]]:
    """The last word on every address; a line that a kill cut off is removed."""
    if not ledger.exists():
        return {}
    with ledger.open("rb+") as file:
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)
    return {line["url"]: line for line in map(json.loads, data[: data.rfind(b"\n") + 1].splitlines())}


def _write(ledger: Any, known: dict[str, dict[str, Any]], line: dict[str, Any]) -> None:
    ledger.write(json.dumps(line) + "\n")
    ledger.flush()
    known[line["url"]] = line


def _sidecar(out: Path, known: dict[str, dict[str, Any]]) -> None:
    """What `curate` reads of the files: the list's words, and where they came from."""
    with write_aside(out / "metadata.jsonl") as aside, aside.open("w", encoding="utf-8") as file:
        for _, line in sorted(known.items()):
            if line["file"]:
                where = {k: line[k] for k in ("retrieved", "final_url", "status", "content_type", "wishes") if line[k]}
                file.write(json.dumps({**line["said"], **where, "file_name": line["file"]}) + "\n")


class _Fetching:
    """One call of `fetch_list`: threads that take tasks, ask, and write down what came of it."""

    def __init__(self, out: Path, manners: Manners, wanted: dict[str, Any], known: dict[str, Any], ledger: Any) -> None:
        self._out, self._manners, self._wanted, self._known, self._ledger = out, manners, wanted, known, ledger
        self._queue, self._lock = Queue(manners.per_host, manners.delay), threading.Lock()

    def run(self, urls: list[str]) -> None:
        """Ask for all of `urls`."""
        with progress(len(urls), "fetching", "files") as self._bar:
            for url in urls:
                try:
                    self._queue.put(Task(url, url))
                except Failure as failure:
                    self._record(Task(url, url), _failed(failure))
            with ThreadPoolExecutor(self._manners.at_once) as pool:
                threads = [pool.submit(self._work) for _ in range(self._manners.at_once)]
                try:
                    for thread in threads:
                        thread.result()
                finally:
                    self._queue.stop()

    def _work(self) -> None:
        try:
            while taken := self._queue.take():
                task, host = taken
                wait = 0.0
                try:
                    outcome = self._ask(task, host)
                except Failure as failure:
                    outcome, wait = self._again(task, host, failure)
                if outcome:
                    self._record(task, outcome)
                self._queue.done(task, host, wait)
        except BaseException:
            self._queue.stop()
            raise

    def _ask(self, task: Task, host: Host) -> dict[str, Any] | None:
        """What came of a task, or None where it waits in line again. Raises `Failure`."""
        if isinstance(host.robots, Failure):
            raise Failure(host.robots.reason, host.robots.detail)
        if host.robots is None:
            host.robots = self._robots(task.host)
            host.delay = max(host.delay, host.robots.delay)
            self._queue.put_first(task)
            return None
        parts = address(task.url)
        if not host.robots.allows(parts.path + ("?" + parts.query if parts.query else "")):
            raise Failure("robots.txt forbids it")
        with opened(self._manners.request(task.url)) as reply:
            if reply.status in (301, 302, 303, 307, 308):
                if task.hops == self._manners.redirects:
                    raise Failure("too many redirects", f"{task.hops}, the last to {task.url}")
                self._queue.put_first(replace(task, url=jumped(task.url, reply), hops=task.hops + 1))
                return None
            return self._took(task, reply)

    def _took(self, task: Task, reply: Reply) -> dict[str, Any]:
        """The line of a file that was fetched. Raises `Failure`."""
        if reply.status in _BUSY:
            raise Failure("server busy", f"status {reply.status}", again=True, wait=reply.wait)
        if reply.status != 200:
            raise Failure("not found" if reply.status in (404, 410) else f"status {reply.status}")
        if reservation := reserved(reply.headers.items(), NAME):
            raise Failure("reserved by its server", reservation)
        kind = reply.headers.get_content_type() if "Content-Type" in reply.headers else ""
        if kind and kind.split("/")[0] not in ("image", "video") and kind not in _UNSAID:
            raise Failure("no picture or video", kind)
        part = self._out / PARTS / str(threading.get_ident())
        content = blake2b(digest_size=16)
        with part.open("wb") as file:
            for piece in reply.parts():
                content.update(piece)
                file.write(piece)
        name = content.hexdigest()
        path = self._out / name[:2] / (name + _suffix(kind, address(task.url).path))
        path.parent.mkdir(exist_ok=True)
        part.replace(path)
        return {
            "file": str(path.relative_to(self._out)), "reason": None, "detail": None, "final_url": task.url,
            "status": reply.status, "content_type": kind or None, "wishes": wishes(reply.headers.items()) or None,
        }  # fmt: skip

    def _again(self, task: Task, host: Host, failure: Failure) -> tuple[dict[str, Any] | None, float]:
        """The line of a failure, or None where the task waits in line again; and seconds for its host to rest."""
        robotless = host.robots is None  # then it is the host that fails, with all that waits for it
        host.tries = host.tries + 1 if robotless else 0
        attempt = host.tries if robotless else task.attempt
        wait = max(failure.wait, BACK_OFF * 2.0 ** (attempt - 1)) if failure.again else 0.0
        if failure.again and attempt < self._manners.attempts and wait <= self._manners.longest_wait:
            self._queue.put(task if robotless else replace(task, attempt=attempt + 1))
            return None, wait
        if robotless:
            host.robots = failure
        elif failure.wait > self._manners.longest_wait:
            host.robots = Failure(failure.reason, f"the host asked not to be asked for {failure.wait:,.0f} s")
        return _failed(failure), 0.0

    def _robots(self, host: str) -> Robots:
        """A host's robots.txt, by RFC 9309: none is no rule, one that cannot be read forbids all. Raises `Failure`."""
        url = f"{host}/robots.txt"
        for _ in range(self._manners.redirects + 1):
            with opened(self._manners.request(url, ROBOTS_BYTES)) as reply:
                if reply.status in (301, 302, 303, 307, 308):
                    url = jumped(url, reply)
                    continue
                if reply.status in _BUSY or reply.status >= 500:
                    raise Failure("robots.txt cannot be read", f"status {reply.status}", again=True, wait=reply.wait)
                if reply.status != 200:
                    return Robots()
                return robots(reply.beginning().decode(errors="replace"), NAME)
        return Robots()

    def _record(self, task: Task, outcome: dict[str, Any]) -> None:
        with self._lock:
            said = self._wanted[task.listed]
            when = datetime.now(UTC).isoformat(timespec="seconds")
            _write(self._ledger, self._known, {"url": task.listed, "retrieved": when, "said": said, **outcome})
            self._bar.advance()


_UNSAID = ("application/octet-stream", "binary/octet-stream")  # any file at all
_SUFFIXES = {
    *(".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".heic", ".bmp", ".tif", ".tiff", ".jxl"),
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"),
}


def _suffix(kind: str, path: str) -> str:
    """The end of a file's name: one of media whatever a server says, so that no list or archive comes in by a trick."""
    guesses = (mimetypes.guess_extension(kind, strict=False) or "", Path(path).suffix.lower())
    return next((guess for guess in guesses if guess in _SUFFIXES), ".bin")


def _failed(failure: Failure) -> dict[str, Any]:
    nothing = dict.fromkeys(("file", "final_url", "status", "content_type", "wishes"))
    return nothing | {"reason": failure.reason, "detail": failure.detail}
