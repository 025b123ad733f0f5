"""The first step of curation: every item is decoded once, in a guarded process, and what was seen becomes rows.

What an item is, or why it could not be read, goes to the probe's observations by location; what stages measured goes
to theirs by id. Both are written a shard at a time, so a kill costs at most the shards under way; a stage that is new,
or whose parameters changed, looks at the clips it has no row for, and at no others.

`Observer` is the function from a table of works to a table of what was seen; a runner takes it to where it is run.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from stat import S_ISREG
from typing import Any

import pyarrow as pa

from diorama.core.files import hash_bytes
from diorama.core.progress import progress
from diorama.data.ledger import OBSERVATION, append, batched, fitting, stage_folder, stage_schema
from diorama.data.runners import Advance, Batch, Local, Runner
from diorama.data.sources import Item, fetch
from diorama.data.sources.said import SAID
from diorama.data.stages.look import Look, Seen
from diorama.data.stages.stage import Stage
from diorama.data.strip import Claim
from diorama.media import BadMedia, Limits, Overrun, Part, Reader, Source
from diorama.media.media import short

SHARD, LEAST = 512, 32  # items an observation file: at most, and at least where it is divided further
SMALL = 256 << 10  # bytes of a file that is read whole before it is decoded
FIT = 512 << 20  # bytes of decoded frames, to which long videos are shrunk
GONE = "no longer at its source"

WORDS = [*SAID, "more"]
WORK = pa.schema([
    *(OBSERVATION.field(name) for name in ("location", "root", "stamp", "id", *WORDS)),
    ("stages", pa.list_(pa.int32())),  # by their numbers in the `Observer`
    ("cut", pa.int32()),
    ("start", pa.float64()),
    ("count", pa.int32()),
])  # fmt: skip
Data = Path | bytes | BadMedia


@dataclass(frozen=True)
class Work:
    """An item to look at, and by which stages. `id` is that of a clip whose probe is done; else it is probed too.

    cut: the stage that says where a file is cut. part: the start in seconds and the frames of a clip that was cut.
    """

    item: Item
    stages: tuple[Stage, ...]
    id: str | None = None
    cut: Stage | None = None
    part: tuple[float, int] | None = None

    @property
    def looking(self) -> tuple[Stage, ...]:
        """All stages that look at it."""
        return tuple(dict.fromkeys((*([self.cut] if self.cut else []), *self.stages)))

    @property
    def claim(self) -> Claim:
        """What is said of its being a strip."""
        more = json.loads(self.item.said["more"]) if "more" in self.item.said else {}
        frames, width = more.get("frames"), more.get("width")
        hint = (frames, width) if isinstance(frames, int) and isinstance(width, int) else None
        return Claim(self.item.said.get("frame_width"), hint)


def observe(
    work: Sequence[Work],
    catalogue: Path,
    probe: Path,
    run: int,
    limits: Limits,
    workers: int | None = None,
    runner: Runner = Local(),  # noqa: B008 - frozen
) -> None:
    """Look at every item in guarded processes; write what was seen, a shard at a time."""
    if not work:
        return
    observer = Observer(tuple(dict.fromkeys(stage for w in work for stage in w.looking)), limits, run)
    size = min(SHARD, max(len(work) // (4 * runner.lanes(workers)), LEAST))
    shards = [observer.table(shard) for shard in batched(work, size)]
    with (
        progress(len(work), "curating", "clips") as bar,
        closing(runner.run(observer, shards, workers, bar.advance)) as results,
    ):
        for number, seen in results:
            names = (shards[number][column].to_pylist() for column in ("location", "stamp"))
            name = hash_bytes("".join(map("".join, zip(*names, strict=True))).encode())
            places = {stage.name: stage_folder(catalogue, stage) for stage in observer.stages}
            for column, folder in [*places.items(), ("item", probe)]:  # last: an item is done when its row is here
                if rows := seen[column].drop_null():
                    said = f"{run:06d}-{name}" if column == "item" else name  # what is said may become what it was
                    append(folder, said, pa.Table.from_struct_array(rows))


@dataclass(frozen=True)
class Observer:
    """A pure function from a table of `WORK` to one of what was seen, a row a row; it fetches and decodes by itself.

    Its columns are structs: `item`, the row of `OBSERVATION`, null where the probe was done; and each stage's row by
    its name, null where it did not look. `run` is the number of this run.
    """

    stages: tuple[Stage, ...]
    limits: Limits
    run: int

    def table(self, works: Sequence[Work]) -> pa.Table:
        """Works as a table."""
        number = {stage: n for n, stage in enumerate(self.stages)}
        rows = [
            w.item.said | {"location": w.item.location, "root": w.item.root, "stamp": w.item.stamp, "id": w.id,
                           "stages": [number[s] for s in w.stages], "cut": number[w.cut] if w.cut else None,
                           "start": w.part and w.part[0], "count": w.part and w.part[1]}
            for w in works
        ]  # fmt: skip
        return pa.Table.from_pylist(rows, WORK)

    @contextmanager
    def open(self, workers: int) -> Iterator[Batch]:
        """The function, with as many decoding processes; what ends or hangs one of them is an error of its item."""
        with Reader(workers, self.limits) as reader:
            yield partial(self._look, reader)

    def failed(self, batch: pa.Table, reason: str) -> pa.Table:
        """What to say of items that cannot be looked at."""
        return self._table([self._rows(w, BadMedia(reason), BadMedia(reason)) for w in self._works(batch)])

    def _works(self, batch: pa.Table) -> list[Work]:
        works = []
        for row in batch.to_pylist():
            said = {word: row[word] for word in WORDS if row[word] is not None}
            item = Item(row["location"], row["root"], row["stamp"], said)
            cut = None if row["cut"] is None else self.stages[row["cut"]]
            part = None if row["start"] is None else (row["start"], row["count"])
            works.append(Work(item, tuple(self.stages[n] for n in row["stages"]), row["id"], cut, part))
        return works

    def _look(self, reader: Reader, batch: pa.Table, advance: Advance) -> pa.Table:
        rows = []
        for look, alike in groupby(self._works(batch), key=lambda w: Look(w.stages, w.claim, w.cut)):
            for w, data, found in _seen(reader, alike, look):
                if isinstance(found, Overrun) and not isinstance(data, BadMedia) and w.id is None:
                    found = self._alone(w, data, found)
                rows.append(self._rows(w, data, found))
                advance(1)
        return self._table(rows)

    def _alone(self, w: Work, data: Path | bytes, failed: Overrun) -> Seen | BadMedia:
        """What an item is without any stage: it may be a stage that ran over, and not its decoder.

        A stage that fails on a file known to be sound would do so each time: that is what it measured.
        """
        with Reader(1, self.limits) as reader:
            seen = next(reader.map([data], Look((), w.claim), fit=FIT))
        errors: dict[str, Mapping[str, Any]] = {stage.name: {"error": failed.reason} for stage in w.looking}
        return replace(seen, rows=errors) if isinstance(seen, Seen) else seen

    def _rows(self, w: Work, data: Data, found: Seen | BadMedia) -> dict[str, Mapping[str, Any]]:
        """A row of every column that has one."""
        rows: dict[str, Mapping[str, Any]] = {}
        identifier = w.id
        if identifier is None:
            rows["item"] = _note(w.item, data, found) | {"run": self.run}
            identifier = rows["item"].get("id")
        elif isinstance(found, BadMedia):
            return {stage.name: {"id": identifier, "error": found.reason} for stage in w.looking}
        if isinstance(found, Seen) and identifier:
            rows |= {name: {"id": identifier, **values} for name, values in found.rows.items()}
        return rows

    def _table(self, rows: Sequence[Mapping[str, Mapping[str, Any]]]) -> pa.Table:
        columns = {}
        for name, schema in [("item", OBSERVATION), *((stage.name, stage_schema(stage)) for stage in self.stages)]:
            there = [dict(row[name]) for row in rows if name in row]
            nth = iter(range(len(there)))
            where = pa.array([next(nth) if name in row else None for row in rows], pa.int64())
            columns[name] = fitting(there, schema).to_struct_array().combine_chunks().take(where)
        return pa.table(columns)


def _seen(reader: Reader, works: Iterable[Work], look: Look) -> Iterator[tuple[Work, Data, Seen | BadMedia]]:
    """Items, their encoded media and what is seen of them, in order; the reader takes a few items ahead."""
    ahead: deque[tuple[Work, Data]] = deque()

    def sources() -> Iterator[Source]:
        for w in works:
            data = _fetched(w)
            ahead.append((w, data))
            if not isinstance(data, BadMedia):
                yield Part(data, *w.part) if w.part else data

    def gone() -> Iterator[tuple[Work, Data, BadMedia]]:
        while ahead and isinstance(bad := ahead[0][1], BadMedia):
            yield *ahead.popleft(), bad

    for found in reader.map(sources(), look, fit=FIT):
        yield from gone()
        yield *ahead.popleft(), found
    yield from gone()


def _fetched(w: Work) -> Data:
    if w.item.stamp == GONE:
        return BadMedia(GONE)
    try:
        data = fetch(w.item.location)
    except BadMedia as bad:
        return bad
    except Exception as error:  # what holds it is damaged, or away: the others' may not be
        return BadMedia(f"cannot be fetched: {short(error)}")
    return _at_hand(data) if isinstance(data, Path) else data


def _at_hand(path: Path) -> Path | bytes:
    """The bytes of a small file, which is opened once then; why it cannot be read is for the reader to say."""
    try:
        there = path.stat()
        return path.read_bytes() if S_ISREG(there.st_mode) and there.st_size <= SMALL else path
    except OSError:
        return path


def _note(item: Item, data: Data, seen: Seen | BadMedia) -> dict[str, Any]:
    """An item's observation, which has an id or an error."""
    row = {"location": item.location, "root": item.root, "stamp": item.stamp} | item.said
    if isinstance(data, BadMedia):
        return row | {"error": data.reason}
    if isinstance(seen, BadMedia):
        return row | {"error": seen.reason}
    if len(item.said.get("actions", range(seen.t))) != seen.t:
        return row | {"error": f"{len(item.said['actions'])} actions were given for {seen.t} frames"}
    try:
        stored = {"id": identity(data, seen.frame_width),
                  "bytes": data.stat().st_size if isinstance(data, Path) else len(data)}  # fmt: skip
    except OSError as error:  # it went away since it was decoded
        return row | {"error": f"cannot be read: {error.strerror}"}
    return row | stored | {
        "pixels": seen.pixels,
        "kind": "video" if seen.t > 1 else "image", "t": seen.t, "h": seen.h, "w": seen.w,
        "rate": seen.rate or item.said.get("rate") if seen.t > 1 else None, "frame_width": seen.frame_width,
        "sound": seen.sound, "format": seen.format,
    }  # fmt: skip


def identity(data: Path | bytes, frame_width: int | None = None) -> str:
    """A clip's id: the hash of its stored bytes (and of how a strip is cut)."""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(data, Path):
        with data.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    else:
        digest.update(data)
    if frame_width:
        digest.update(f"strip {frame_width}".encode())
    return digest.hexdigest()
