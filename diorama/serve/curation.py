"""The report of a curation: one HTML file that needs nothing beside it, in which every number opens its items.

All counts are SQL over the tables of `diorama look`; only pictures that are shown and a sample for spectra are decoded.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from diorama.core.files import write_text
from diorama.core.progress import progress
from diorama.data import Catalogue
from diorama.serve import curation_plots as plots
from diorama.serve.funnel import Applied, Step, applied, funnel, lines, unreadable
from diorama.serve.items import Filter
from diorama.serve.measured import balances, histograms, spectra
from diorama.serve.opened import Items, Number
from diorama.serve.pictures import pictures
from diorama.serve.template import template
from diorama.serve.told import captions, people, provenance

GROUPS, IN_GROUP = 6, 6  # of duplicates, and clips shown of each
DOUBTFUL = 8  # pairs


def write_curation_report(path: Path | str) -> Path:
    """Write `report.html` in the folder of a catalogue and return its path.

    Raises `UserError` when curation has not finished there.
    """
    catalogue = Catalogue(path)
    head = json.loads((catalogue.path / "catalogue.json").read_text())
    policy = _policy(catalogue.path, head.get("policy"))
    items = Items(catalogue)
    rules = applied(policy)
    steps = funnel(items, rules)
    parts: dict[str, Callable[[], Any]] = {
        "facts": lambda: _facts(items), "head": lambda: _head(catalogue, head), "sources": lambda: _sources(items),
        "unreadable": lambda: unreadable(items), "histograms": lambda: histograms(items, lines(rules, steps)),
        "duplicates": lambda: _duplicates(items), "balance": lambda: balances(items),
        "captions": lambda: captions(items), "provenance": lambda: provenance(items),
        "people": lambda: people(items, rules), "unseen": lambda: _unseen(items, rules, steps, head.get("cut")),
    }  # fmt: skip
    data: dict[str, Any] = {
        "name": catalogue.path.resolve().name, "policy": policy, "steps": steps,
        "figure": plots.funnel([(step.name, step.left, step.out.count) for step in steps]),
    }  # fmt: skip
    with progress(len(parts), "counting", "section") as bar:
        for name, part in parts.items():
            data[name] = part()
            bar.advance()
    data["spectra"] = spectra(items, rules)
    data["pictures"] = pictures(catalogue, items.con, items.wanted)
    target = catalogue.path / "report.html"
    write_text(target, template("curation.html.j2", {"share": share, "size": size, "lasting": lasting}).render(data))
    return target


def share(part: float, whole: float) -> str:
    """Part of a whole, in percent with as many digits as tell something.

    >>> share(1, 3), share(1, 4000), share(0, 0)
    ('33 %', '0.025 %', '–')
    """
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 99 < percent < 100:
        return f"{min(percent, 99.9):.1f} %"
    return f"{percent:.0f} %" if percent >= 10 or percent in (0, 1) else f"{percent:.2g} %"


def size(count: float) -> str:
    """A number of bytes in words.

    >>> size(1234567)
    '1.2 MB'
    """
    units = ["bytes", "kB", "MB", "GB", "TB", "PB"]
    while count >= 1000 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:.0f} {units[0]}" if units[0] == "bytes" or count >= 100 else f"{count:.1f} {units[0]}"


def lasting(seconds: float) -> str:
    """Seconds in words.

    >>> lasting(3.4), lasting(7500)
    ('3.4 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def _policy(path: Path, fingerprint: str | None) -> str:
    file = path / "policies" / f"{fingerprint}.txt"
    return file.read_text() if file.exists() else ""


def _head(catalogue: Catalogue, head: dict[str, Any]) -> list[tuple[str, str]]:
    """What this report is of, so that it can be told from another."""
    decided = catalogue.ask("select max(time) as time, max(run) as run from ledger").to_pylist()[0]
    stages = [(f"stage {name}", Path(folder).name) for name, folder in catalogue.stages.items()]
    return [
        ("manifest", catalogue.hash()),
        ("policy", head.get("policy") or "unknown"),
        ("last decision", f"{decided['time'] or '–'}, run {decided['run'] or '–'}"),
        ("report written", datetime.now(UTC).isoformat(timespec="seconds")),
        *stages,
    ]


def _facts(items: Items) -> list[tuple[str, Number | str, str]]:
    """What stands at the head of the page: name, number, and what is to say about it."""
    [sums] = items.rows("select sum(bytes) as bytes, sum(t / rate) filter (kind = 'video') as seconds, "
                        "count(*) filter (kind = 'video') as videos, sum(t) filter (kind = 'video') as frames "
                        "from shown where verdict = 'keep'")  # fmt: skip
    kept = items.asked(Filter(verdict="keep"))
    out = items.asked(Filter(verdict="drop"), note="reason")
    found = items.con.execute("select distinct kind from shown where verdict = 'keep' order by 1").fetchall()
    kinds = [(f"{k}s kept", items.asked(Filter(verdict="keep", column="kind", equals=k)), "") for (k,) in found]
    videos = [("Video", lasting(sums["seconds"] or 0), f"{sums['frames']:,} frames")] if sums["videos"] else []
    return [
        ("Clips kept", kept, "what trains"),
        ("Left out", out, f"of {kept.count + out.count:,} items, files that were cut among them"),
        *((name.capitalize(), number, about) for name, number, about in kinds),
        *videos,
        ("Size", size(sums["bytes"] or 0), "of what is kept, as stored"),
    ]


def _sources(items: Items) -> list[dict[str, Any]]:
    """Each source with its items and how many clips of it are kept."""
    roots = items.con.execute("select root from shown group by root order by count(*) desc, root limit 50").fetchall()
    return [{"name": root, "items": items.asked(Filter(column="root", equals=root)),
             "kept": items.asked(Filter(verdict="keep", column="root", equals=root))} for (root,) in roots]  # fmt: skip


@dataclass(frozen=True)
class Duplicates:
    """Clips left out for another one: counts by reason, the largest groups, and the pairs nearest to the threshold."""

    reasons: list[tuple[str, Number]]
    groups: list[tuple[int, tuple[Any, ...]]]
    doubtful: list[tuple[Any, ...]]


def _duplicates(items: Items) -> Duplicates:
    reasons = items.con.execute(
        "select reason from copy join item using (n) group by reason order by count(*) desc, reason"
    ).fetchall()
    large = items.con.execute(
        "select of, count(*) from copy group by of order by 2 desc, 1 limit ?", [GROUPS]
    ).fetchall()
    kept = "case verdict when 'keep' then 'kept' else 'left out itself: ' || reason end"
    note = "case when value is null then reason else reason || ' ' || round(value, 2) end"
    groups = []
    for of, count in large:
        first = items.sheet("from shown where n = ?", [of], kept)
        rest = items.sheet("from shown where n in (select n from copy where of = ?) "
                           f"order by value, n limit {IN_GROUP}", [of], note)  # fmt: skip
        groups.append((count + 1, first + rest))
    pairs = items.con.execute(
        "select c.n, c.of from copy c join item i on i.n = c.n where i.value is not null "
        f"order by abs(i.value - i.threshold), c.n limit {DOUBTFUL}").fetchall()  # fmt: skip
    doubtful = [items.sheet("from shown where n = ?", [of], kept)
                + items.sheet("from shown where n = ?", [n], "'left out, likeness ' || round(value, 3)")
                for n, of in pairs]  # fmt: skip
    return Duplicates([(r, items.asked(Filter("drop", r))) for (r,) in reasons], groups, doubtful)


@dataclass(frozen=True)
class Unseen:
    """What nobody and nothing looked at: numbers by what they say, stages with their gaps, rules without effect."""

    numbers: list[tuple[str, Number, int]]  # of how many
    stages: list[tuple[str, Number, Number, list[tuple[str, Number]]]]  # not measured, failed, errors
    idle: list[tuple[str, str]]


def _unseen(items: Items, rules: Sequence[Applied], steps: Sequence[Step], cut: str | None) -> Unseen:
    catalogue, kept = items.catalogue, items.one("select count(*) from shown where verdict = 'keep'")
    sound = items.one("select count(*) from sound")
    items.con.execute("create or replace temp table measured (id varchar)")
    stages = []
    for stage in catalogue.stages:
        looked = catalogue.ask(f"select id, error from {stage}")
        items.con.register("looked", looked)
        items.con.execute("insert into measured select id from looked where error is null")
        whose = "asset is null and error is null" if stage == cut else "n in (select n from sound)"
        lacking = items.where(f"{whose} and id not in (select id from looked)")
        failed = items.where("id in (select id from looked where error is not null)", note="format")
        errors = items.con.execute("select error from looked where error is not null group by error "
                                   "order by count(*) desc, error limit 10").fetchall()  # fmt: skip
        which = [(e, items.where("id in (select id from looked where error = ?)", [e])) for (e,) in errors]
        stages.append((stage, lacking, failed, which))
        items.con.unregister("looked")
    nothing = items.where("judged is null and id not in (select id from measured)", table="sound")
    no_person = items.asked(Filter(verdict="keep", column="judged"))
    seen = items.where("verdict = 'keep' and judged is not null", note="judged")
    numbers = [
        ("kept clips that a person has judged", seen, kept),
        ("kept clips that no person has judged", no_person, kept),
        ("readable clips that no person has judged and no stage has measured", nothing, sound),
    ]
    if "preview" not in catalogue.stages:
        without = items.where("true", table="sound")
        numbers.append(("readable clips without a stored picture: the policy has no stage Preview", without, sound))
    return Unseen(numbers, stages, _idle(items, rules, steps))


def _idle(items: Items, rules: Sequence[Applied], steps: Sequence[Step]) -> list[tuple[str, str]]:
    """Rules that left nothing out, and why as far as it is known."""
    out = {step.name: step.out.count for step in steps}
    found = []
    for rule in rules:
        if out.get(rule.name):
            continue
        blank = [c.measure for c in rule.conditions if c.measure in items.measures
                 and not items.one(f'select count("{c.measure}") from sound')]  # fmt: skip
        why = f"no clip has a value of {', '.join(blank)}" if blank else "every clip it saw passed"
        found.append((rule.name, why))
    return found
