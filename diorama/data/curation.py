"""Curation: from sources to a catalogue of clips to train on, with a reason for everything left out.

Three steps, each safe to kill and each doing only what is not yet done:

1. observe: every item is decoded once, in a guarded process; what was seen, or why it could not be read, is a row of
   an observation shard. An item is done when a shard that holds its stamp exists.
2. decide: people's judgements and the policy's rules say keep or drop. Verdicts that changed go to the ledger.
3. store: `clips.lance` is brought to hold the clips kept, and `media.lance` their bytes or references; last,
   `catalogue.json` names the version that is complete, so a reader never sees a half-finished one.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.core.files import sole_writer, write_text
from diorama.data.catalogue import Catalogue, Summary, read_head
from diorama.data.decide import Decision, folders, views
from diorama.data.derive import derive
from diorama.data.ledger import probe_folder, shards
from diorama.data.observe import GONE, Work, observe
from diorama.data.rules import Curation
from diorama.data.runners import Local, Runner, named
from diorama.data.sources import Item, is_there, listing, state
from diorama.data.stages.stage import Stage
from diorama.data.store import add_vectors, finish, store


def curate(
    sources: Sequence[Path | str],
    out: Path | str,
    policy: Curation = Curation(),  # noqa: B008 - frozen
    *,
    workers: int | None = None,
    runner: str = "local",
) -> Summary:
    """Bring every clip of `sources` into the catalogue folder `out`; what is done already is not done again.

    A file that `policy` cuts becomes several clips, as a view: nothing is encoded anew.

    A source is a folder (walked; sidecars `*.jsonl`, `*.json`, `*.csv` and `NAME.txt` say things about its files), a
    Parquet file with a column of encoded media, an IDX or an NPZ file. `policy` says what is measured and what is left
    out. A clip without a split follows one given to its group; the others are divided by a hash of their group or id.
    `runner` looks at media: "local" processes, "daft", or "daft-ray" (a Ray cluster), `workers` of them at once.
    Sources add up over calls; a file that has gone from its source is dropped. Raises `UserError` for a source that is
    missing or a malformed sidecar; a file that cannot be read is a decision with its reason, never an error.
    """
    out = Path(os.path.abspath(out))
    with sole_writer(out, "curating"):
        look = Examination(sources, out, policy, workers, named(runner))
        if look.settled:
            return Catalogue(out).summary()
        decision = look.decide()
        if not decision.kept:
            if not decision.con.sql("select 1 from sound limit 1").fetchall():
                raise UserError(f"{', '.join(map(str, sources))}: holds no clip that can be read")
            raise UserError("no clip is left: see what each rule cuts with --dry-run")
        decision.record(look.run)
        if not (text := out / "policies" / f"{policy.fingerprint}.txt").exists():
            write_text(text, policy.text())
        head = store(decision.con, out, decision.settled, policy.inline_bytes, look.head)
        for stage, column in ((s, c) for s in policy.derived for c, kind in s.columns.items() if kind is np.ndarray):
            add_vectors(decision.con, out, stage.name, column, folders(out, policy)[stage.name].name)
        finish(out, head)
    return Catalogue(out).summary(new=look.new)


class Examination:
    """The first step of `curate`, in the absolute folder `out`: look at what is new.

    Sources whose files have the names, sizes and times of the last curation are not listed again, and where nothing
    that decides has changed either, the last decision stands (`settled`). new: items looked at. run: this one's number.
    """

    def __init__(
        self,
        sources: Sequence[Path | str],
        out: Path,
        policy: Curation,
        workers: int | None = None,
        runner: Runner = Local(),  # noqa: B008 - frozen
    ) -> None:
        self.out, self.policy = out, policy
        self.probe = probe_folder(out, policy.limits)
        self.new, self.run = 0, 0
        before = read_head(out)
        known = before.get("sources", {})
        self.sources = {os.path.abspath(source): Path(source) for source in sources}
        if before.get("probe", self._probe) != self._probe:  # other limits: what earlier sources hold is looked at anew
            self.sources |= {root: Path(root) for root in known if os.path.exists(root)}
        self.head: dict[str, Any] = {
            "probe": self._probe, "policy": policy.fingerprint, "cut": policy.cut.name if policy.cut else None,
            "stages": {name: str(place.relative_to(out)) for name, place in folders(out, policy).items()},
        }  # fmt: skip
        alike = all(before.get(name) == self.head[name] for name in ("probe", "cut", "stages"))
        self.head["sources"] = (known if alike else dict.fromkeys(known)) | {
            root: state(source, out) for root, source in self.sources.items()
        }
        self.head |= {"observed": shards(self.probe), "judgements": shards(out / "judgements")}
        same = alike and before.get("observed") == self.head["observed"]
        same = same and all(known.get(root) == self.head["sources"][root] is not None for root in self.sources)
        self.settled = same and all(before.get(name) == value for name, value in self.head.items())
        if not self.settled:
            con = views(out, self.probe, policy)
            runs = "select run from observations union all select run from decisions"
            [(last,)] = con.execute(f"select coalesce(max(run), 0) from ({runs})").fetchall()
            finished = before.get("run", 0)
            self.run = max(last, finished) + 1
            if not same:
                # what a run that was cut short has looked at is in no source's state
                short = con.execute(f"select 1 from observations where run > {finished:d} limit 1").fetchall()
                stands = {root for root, was in known.items() if was == self.head["sources"][root] is not None}
                stands = stands if alike and not short else set()
                changed = {root: source for root, source in self.sources.items() if root not in stands}
                self.new = self._look(con, changed, workers, runner)
            self._derive()
            # not judgements: those that came in the meantime count the next time
            self.head |= {"observed": shards(self.probe), "run": self.run}

    @property
    def _probe(self) -> str:
        return str(self.probe.relative_to(self.out))

    def decide(self) -> Decision:
        """Verdicts on all that was observed; none is recorded."""
        return Decision(self.out, self.probe, self.policy)

    def _look(self, con: Any, sources: Mapping[str, Path], workers: int | None, runner: Runner) -> int:
        """Look at what is new in `sources`, by root; returns how many items that were."""
        out, policy = self.out, self.policy
        items: dict[str, Item] = {}
        for root, source in sources.items():
            for item in listing(source, skip=out):
                if not _is_text(item.location):
                    raise UserError(f"{item.location!r} has a name that is not UTF-8: rename it")
                items.setdefault(item.location, item)
                inside = f"{os.path.normpath(item.location)}/".startswith((f"{root}/", f"{root}#"))
                if not inside:  # named from within, and changes elsewhere
                    self.head["sources"][root] = None
        if not items and len(sources) == len(self.sources):
            raise UserError(f"nothing to curate: {', '.join(map(str, sources.values()))} holds no files")
        con.register("listed", pa.table({"location": list(items)}))
        asked = "select location, stamp, root from files where root in (select unnest(?)) or location in (from listed)"
        seen = {location: (stamp, root) for location, stamp, root in con.execute(asked, [list(sources)]).fetchall()}
        con.unregister("listed")
        roots = set(sources)
        new = [item for item in items.values() if seen.get(item.location, ("", ""))[0] != item.stamp]
        gone = [Item(location, root, GONE) for location, (stamp, root) in sorted(seen.items())
                if root in roots and location not in items and stamp != GONE]  # fmt: skip
        work = [*(Work(item, policy.stages, cut=policy.cut) for item in new), *(Work(item, ()) for item in gone)]
        if policy.cut:
            work += _unmeasured(con, "files", (policy.cut,), {item.location for item in [*new, *gone]})
        observe(work, out, self.probe, self.run, policy.limits, workers, runner)
        again = _unmeasured(views(out, self.probe, policy), "latest", policy.stages, set())  # cut clips among them
        observe(again, out, self.probe, self.run, policy.limits, workers, runner)
        return len(work) - len(gone) + len(again)

    def _derive(self) -> None:
        """Derive what is to be derived: of new clips, or of those of which something else is said now."""
        out, policy = self.out, self.policy
        for n, stage in enumerate(policy.derived):
            place = folders(out, policy)[stage.name]
            models = out / "models" / stage.name / place.name
            derive(views(out, self.probe, policy), stage, place, models, policy.derived[:n])


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unmeasured(con: Any, clips: str, stages: Sequence[Stage], skip: set[str]) -> list[Work]:
    """Clips that are known, but not measured yet by every stage: by each lacking stage, at one of their locations."""
    lacking: dict[str, list[Any]] = {}
    found: dict[str, Work] = {}
    for stage in stages:
        rows = con.execute(
            f"select id, list((location, root, stamp, frame_width, start, t) order by location) from {clips} "
            f"where error is null and id not in (select id from {stage.name}) group by id order by id"
        ).fetchall()
        for identifier, places in rows:
            place = next((p for p in places if p[0] not in skip and is_there(p[0])), None)
            if place:
                location, root, stamp, width, start, t = place
                item = Item(location, root, stamp, {"frame_width": width} if width else {})
                part = None if start is None else (start, t)
                found[identifier] = Work(item, (), identifier, part=part)
                lacking.setdefault(identifier, []).append(stage)
    return [replace(found[i], stages=tuple(stages)) for i, stages in lacking.items()]
