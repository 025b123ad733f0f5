"""A catalogue of clips: what curation left, ready to be asked and to be trained on."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import lance
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.data.frames import Frames
from diorama.data.ledger import (
    CUTS,
    DECISION,
    JUDGEMENT,
    KEYS,
    LATEST,
    MEASURED,
    OBSERVATION,
    WORDS,
    connect,
    cut_files,
    quote,
)
from diorama.data.settled import last_verdicts
from diorama.media import Part, Source
from diorama.media.media import short

SHOWN = 3  # names of items left out, beside each reason
REASONS = 8  # shown; of those beyond, a count
NUMBERS = 12  # of a list, that are shown
CUT, JUDGED = "cut into clips", "judged by a person"


@dataclass(frozen=True)
class Summary:
    """What a catalogue holds, and how much of it the last call had to look at."""

    clips: int
    kinds: dict[str, int]  # clips by kind: image, video
    splits: dict[str, int]  # clips by split
    said: dict[str, int]  # clips that have a caption, a label
    dropped: dict[str, int]  # items that are no clips, by reason, the commonest first
    examples: dict[str, list[str]]  # the locations of some of them
    new: int  # items looked at by this call
    hash: str

    def __str__(self) -> str:
        def listed(counts: dict[str, int]) -> str:
            return ", ".join(f"{count:,} {name}" for name, count in counts.items())

        def some(reason: str) -> str:
            shown = self.examples[reason]
            unnamed = self.dropped[reason] - len(shown)
            more = f" and {unnamed:,} more" if unnamed else ""
            return ", ".join(Path(location).name for location in shown) + more

        lines = [f"{self.clips:,} clips ({listed(self.kinds)}; {listed(self.splits)}), manifest {self.hash[:8]}"]
        lines.append(f"  {listed(self.said)}")
        if cut := self.dropped.get(CUT, 0):
            lines.append(f"  {_counted(cut, 'file')} {'was' if cut == 1 else 'were'} {CUT}")
        reasons = [(reason, gone) for reason, gone in self.dropped.items() if reason != CUT]
        shown = reasons[:REASONS] if len(reasons) > REASONS + 1 else reasons  # one more takes no more room than a count
        lines += [f"  left out {gone:,}: {reason} ({some(reason)})" for reason, gone in shown]
        if others := reasons[len(shown) :]:
            count = sum(gone for _, gone in others)
            lines.append(f"  left out {count:,} for {len(others)} other reasons: 'diorama report' shows them all")
        lines.append(f"  {self.new:,} items were new or changed" if self.new else "  nothing was new: no work to do")
        return "\n".join(lines)


@dataclass(frozen=True)
class Explanation:
    """All that is known of one item: what was seen, what stages measured, every verdict on it, the oldest first, and
    what people said of it (rows of `JUDGEMENT`), likewise."""

    item: dict[str, Any]
    measured: dict[str, dict[str, Any]]
    history: list[dict[str, Any]]
    judgements: list[dict[str, Any]]

    def __str__(self) -> str:
        def listed(row: dict[str, Any], *without: str) -> str:
            values = {k: v for k, v in row.items() if v is not None and k not in without and not isinstance(v, bytes)}
            return ", ".join(f"{k} {_worded(v)}" for k, v in values.items())

        lines = [self.item["location"], f"  seen: {listed(self.item, 'location', 'root', 'stamp', 'run', 'more')}"]
        lines += [f"  {stage}: {listed(row, 'id')}" for stage, row in self.measured.items()]
        told = [(row["time"], f"{row['person'] or 'someone'} {_said(row)}") for row in self.judgements]
        for row in self.history:
            why = f": {row['metric']} {row['value']:.4g}, threshold {row['threshold']:.4g}" if row["metric"] else ""
            instead = f"; {row['partner']} is kept" if row["partner"] else ""
            told.append((row["time"], f"{row['verdict']} ({row['actor']}): {row['reason']}{why}{instead}"))
        lines += [f"  {time} {words}" for time, words in sorted(told, key=lambda timed: timed[0])]
        return "\n".join(lines)


def _said(judgement: dict[str, Any]) -> str:
    verdict, words = judgement["verdict"], judgement["reason"]
    if verdict in ("caption", "label"):
        return f"took the {verdict} back" if words is None else f"gave the {verdict} '{words}'"
    return "took keep or drop back" if verdict == "undo" else f"said {verdict}" + (f": {words}" if words else "")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _worded(value: Any) -> str:
    """A value as one reads it: pictures and long lists of numbers are counted."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if not isinstance(value, list) or not value:
        return str(value)
    if all(isinstance(part, bytes) for part in value):
        return f"{_counted(len(value), 'picture')}, {math.ceil(sum(map(len, value)) / 1000):,} kB"
    if len(value) > NUMBERS and all(isinstance(part, int | float | None) for part in value):
        return _counted(len(value), "number")
    return f"[{', '.join(map(_worded, value))}]"


class Catalogue:
    """The catalogue in folder `path`, at the version that curation finished last, or at `release`: one that `tag`
    named, or the number of a `version`.

    `frames` decodes its clips and keeps up to `cache_bytes` of them in memory, whoever asks. Raises `UserError` when
    curation has not finished there, or for a release that there is not.
    """

    def __init__(self, path: Path | str, *, release: str | int | None = None, cache_bytes: int = 2 << 30):
        self.path = Path(path)
        self.frames = Frames(self.media, cache_bytes)
        if not self.path.is_dir():
            raise UserError(f"there is no folder {self.path}: name a catalogue, as 'diorama curate' writes it")
        try:
            self._head = json.loads((self.path / "catalogue.json").read_text())
        except FileNotFoundError:
            raise UserError(
                f"{self.path} is not a finished catalogue: if it holds your media, run 'diorama curate {self.path} "
                "--out catalogue' and name that; if curation was stopped there, run it again"
            ) from None
        self._until: int | None = None  # the run that made the next version
        if release is not None:
            self._go_back(release)

    def _go_back(self, release: str | int) -> None:
        dataset = self.dataset
        del self.dataset
        if isinstance(release, str):
            tags = dataset.tags.list()
            if release not in tags:
                raise UserError(f"{self.path} has no release '{release}': there are {', '.join(tags) or 'none'}")
            version = tags[release]["version"]
        else:
            version = release
            if version not in (one["version"] for one in dataset.versions()):
                raise UserError(f"{self.path} has no version {version} any more")
        self._head = self._told(version) | {"version": version}
        later = [one["version"] for one in dataset.versions() if one["version"] > version]
        self._until = self._told(min(later)).get("run") if later else None

    def _told(self, version: int) -> dict[str, Any]:
        """What catalogue.json said when a version was made."""
        return json.loads(lance.dataset(self.path / "clips.lance", version=version).schema.metadata[b"diorama"])

    @property
    def version(self) -> int:
        """The number of this version, which `release` opens again whatever is curated later."""
        return self._head["version"]

    def tag(self, release: str) -> None:
        """Name this version, so that it can be opened again whatever is curated later. Raises `UserError` for a name
        that is taken, or is none."""
        try:
            self.dataset.tags.create(release, self._head["version"])
        except (ValueError, OSError) as error:
            taken = release in self.dataset.tags.list()
            why = "is a release already" if taken else f"is no name for a release ({short(error)})"
            raise UserError(f"{self.path}: '{release}' {why}: give another name") from None

    @cached_property
    def dataset(self) -> lance.LanceDataset:
        """The Lance dataset of the clips kept and what is said of them, at the finished version."""
        return lance.dataset(self.path / "clips.lance", version=self._head["version"])

    @cached_property
    def stored(self) -> lance.LanceDataset:
        """The Lance dataset of media: of these clips at their `address`, and of all that were ever kept."""
        return lance.dataset(self.path / "media.lance")

    def hash(self) -> str:
        """The identity of what this catalogue trains: equal for equal clips, captions, labels and splits."""
        return self._head["hash"]

    def clips(self, split: str | None = None) -> pa.Table:
        """Everything but the media of every clip (of one split), sorted by id."""
        table = self.dataset.to_table()
        return table if split is None else table.filter(pa.compute.equal(table["split"], split))

    def media(self, clips: Sequence[Mapping[str, Any]]) -> list[Source]:
        """The encoded media of rows of `clips`: their bytes, the file that holds them, or the part of either."""
        rows = self.stored.take([clip["address"] for clip in clips], columns=["media", "path"])
        found: list[Source] = []
        for clip, media, path in zip(clips, rows["media"], rows["path"].to_pylist(), strict=True):
            whole = Path(path) if path else media.as_py()
            found.append(whole if clip["start"] is None else Part(whole, clip["start"], clip["t"]))
        return found

    def ask(self, question: str) -> pa.Table:
        """Answer SQL about the views `clips`, `observations` (the latest of each item), `decisions` (likewise),
        `ledger` (every decision ever taken), `judgements` (what people said), and what each stage of the policy
        measured, by the stage's name. Of a release: up to the version after it, but for judgements and measures, which
        are those of today.

            catalogue.ask("select reason, count(*) from decisions where verdict = 'drop' group by reason")
        """
        try:
            return self._views.sql(question).to_arrow_table()
        except duckdb.IOException:  # what it read was kept in the cache, which another curation has made anew
            del self._views
            return self._views.sql(question).to_arrow_table()

    @property
    def stages(self) -> dict[str, str]:
        """Folders of observations by stage."""
        return self._head.get("stages", {})

    def explain(self, clip: str) -> list["Explanation"]:
        """Why a clip is in the catalogue or not, of all that `clip` names: an id or its first digits, or a file.

        Raises `UserError` when it names none.
        """
        con, where = self._views, quote(clip)
        items = (
            con.sql(
                f"select * from observations where starts_with(id, {where}) or location = {where} "
                f"or ends_with(location, {quote('/' + clip)}) order by location"
            )
            .to_arrow_table()
            .to_pylist()
        )
        if not items:
            raise UserError(f"{self.path} has seen no clip '{clip}': give an id, or a file as it was curated")
        return [self._explained(item) for item in items]

    def _explained(self, item: dict[str, Any]) -> "Explanation":
        con = self._views
        history = con.sql(f"select * from ledger where location = {quote(item['location'])} order by run")
        said = con.sql(f"select * from judgements where id = {quote(item['id'] or '')} order by nth")
        measured: dict[str, dict[str, Any]] = {}
        for stage in self.stages:
            rows = con.sql(f"select * from {stage} where id = {quote(item['id'] or '')}").to_arrow_table().to_pylist()
            measured |= {stage: rows[0]} if rows else {}
        told, said_of = history.to_arrow_table().to_pylist(), said.to_arrow_table().to_pylist()
        return Explanation(item, measured, told, said_of)

    @cached_property
    def _views(self) -> duckdb.DuckDBPyConnection:
        return self.connection()

    def connection(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the views that `ask` names."""
        tables = {"every_seen": (self.path / self._head["probe"], OBSERVATION),
                  "every_ledger": (self.path / "decisions", DECISION),
                  "judgements": (self.path / "judgements", JUDGEMENT)}  # fmt: skip
        keys = {self._head.get("cut"): CUTS}
        stages = {name: (self.path / folder, keys.get(name, KEYS)) for name, folder in self.stages.items()}
        con = connect(tables | {f"{n}_all": (folder, pa.schema([*key, *WORDS])) for n, (folder, key) in stages.items()})
        until = "" if self._until is None else f"where run < {self._until:d}"
        for name in ("seen", "ledger"):
            con.execute(f"create view {name} as select * from every_{name} {until}")
        for name in self.stages:
            last = {"last": "nth desc", "without": ", nth, words"}
            con.execute(MEASURED.format(view=name, table=f"{name}_all", **last))
        cut_files(con, "seen", self._head.get("cut"))
        con.execute("create view observations as select * from files union all by name select * from pieces")
        if self._until is not None:
            con.execute(LATEST.format(view="decisions", table="ledger"))
        else:
            last_verdicts(con, self.path / "cache", view="decisions", table="ledger")
        con.register("clips", self.dataset)
        return con

    def summary(self, new: int = 0) -> Summary:
        """Counts of what is in and what was left out; `new` is what a curation just looked at."""

        def count(column: str) -> dict[str, int]:
            rows = self.ask(f"select {column} as k, count(*) as n from clips group by k order by n desc, k")
            return dict(zip(rows["k"].to_pylist(), rows["n"].to_pylist(), strict=True))

        [said] = self.ask(
            'select count(caption) as "with a caption", count(label) as "with a label" from clips'
        ).to_pylist()
        gone = self.ask(
            f"select case actor when 'rule' then reason else '{JUDGED}' end as reason, count(*) as items, "
            f"min(location, {SHOWN}) as examples from decisions "
            "where verdict = 'drop' and reason <> 'cut otherwise now' group by 1 order by items desc, 1"
        ).to_pylist()
        dropped = {row["reason"]: row["items"] for row in gone}
        examples = {row["reason"]: row["examples"] for row in gone}
        return Summary(self._head["clips"], count("kind"), count("split"), said, dropped, examples, new, self.hash())


def read_head(path: Path) -> dict[str, Any]:
    """What describes the catalogue at `path` as it was curated last: `policy`, `stages` and so on; {} for none."""
    try:
        return json.loads((path / "catalogue.json").read_text())
    except FileNotFoundError:
        return {}
