"""The second step of curation: observations become verdicts.

One clip of each content is kept; then people's judgements and the policy's rules leave clips out. Verdicts that
changed are appended to the ledger, so it holds the history of every decision.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes
from diorama.data.catalogue import Catalogue
from diorama.data.derive import derived_folder, derived_schema, said_view
from diorama.data.ledger import (
    DECISION,
    JUDGEMENT,
    LATEST,
    MEASURED,
    NARROW,
    OBSERVATION,
    append,
    connect,
    quote,
    stage_folder,
    stage_schema,
)
from diorama.data.rules import Curation, Rule

# What a person chose before all others; a test clip before a training clip (so that none leaks), a captioned one
# first, one whose source is still there before one of a source that was moved or deleted.
_EXACT = """
create view judged as select id, last(verdict order by nth) as verdict, last(reason order by nth) as reason,
  last(person order by nth) as person from judgements group by id having last(verdict order by nth) <> 'undo';
create view ranked as select *,
  row_number() over bytes as copy, first_value(location) over bytes as original
  from latest where error is null
  window bytes as (partition by id
    order by (split = 'test') desc nulls last, caption is null, root in (from away), location);
create view unlike as select *,
  row_number() over same as twin, first_value(location) over same as original_twin
  from ranked left join (select id, verdict as said from judged) using (id) where copy = 1
  window same as (partition by pixels
    order by (said = 'keep') desc nulls last, (said = 'drop') nulls first,
      (split = 'test') desc nulls last, caption is null, root in (from away), location);
create table sound as select * from unlike where twin = 1;
create table cut (id varchar, reason varchar, partner varchar, metric varchar, value double, threshold double,
  actor varchar);
insert into cut select id, coalesce(reason, 'judged'), null, null, null, null, person
  from judged join sound using (id) where verdict = 'drop';
create view left_over as select *, id in (select id from judged where verdict = 'keep') as chosen
  from sound where id not in (select id from cut);
"""

_VERDICTS = """
create table verdicts as
  select location, id, 'drop' as verdict, error as reason, null as partner, null as metric, null as value,
    null as threshold, 'rule' as actor from latest where error is not null
  union all select location, id, 'drop', 'same bytes as another clip', original, null, null, null, 'rule'
    from ranked where copy > 1
  union all select location, id, 'drop', 'same pixels as another clip', original_twin, null, null, null, 'rule'
    from unlike where twin > 1
  union all select location, id, 'drop', reason, partner, metric, value, threshold, actor
    from cut join (select id, location from sound) using (id)
  union all select location, left_over.id, 'keep',
    case when chosen then coalesce(reason, 'judged') else 'sound and unlike the others' end, null, null, null, null,
    case when chosen then person else 'rule' end
    from left_over left join (select id, reason, person from judged) using (id)
"""

_CHANGED = """
select new.* from verdicts new left join verdict old using (location)
where (new.id, new.verdict, new.reason, new.partner, new.metric, new.value, new.threshold, new.actor) is distinct from
  (old.id, old.verdict, old.reason, old.partner, old.metric, old.value, old.threshold, old.actor)
order by location
"""


@dataclass(frozen=True)
class Cut:
    """What one rule left out."""

    rule: str
    clips: int
    threshold: float | None


class Decision:
    """Verdicts on everything that was observed, by `policy`; nothing is written before `record`."""

    def __init__(self, out: Path, probe: Path, policy: Curation) -> None:
        self.out, self.policy = out, policy
        self.con = views(out, probe, policy)
        roots = [root for (root,) in self.con.execute("select distinct root from latest").fetchall()]
        away = [root for root in roots if not os.path.exists(root)]
        self.con.execute("create table away as select unnest(?::varchar[])", [away])
        self.con.execute(_EXACT)
        self.cuts = [self._cut(rule) for rule in policy.rules]
        self.con.execute(_VERDICTS)

    def _cut(self, rule: Rule) -> Cut:
        verdicts = rule.verdicts(self.con)
        self.con.register("found", verdicts)
        self.con.execute(
            f"insert into cut select id, {quote(rule.name)}, partner, metric, value, threshold, 'rule' from found"
        )
        self.con.unregister("found")
        threshold = verdicts["threshold"][0].as_py() if len(verdicts) else None
        return Cut(rule.name, len(verdicts), threshold)

    def record(self, run: int) -> None:
        """Append the verdicts that changed to the ledger, with the policy that took them."""
        changed = self.con.sql(_CHANGED).to_arrow_table().to_pylist()
        if changed:
            time = datetime.now(UTC).isoformat(timespec="seconds")
            signed = {"policy": self.policy.fingerprint, "run": run, "time": time}
            append(self.out / "decisions", f"{run:06d}", [row | signed for row in changed], DECISION)

    def kept(self) -> list[dict[str, Any]]:
        """The clips kept, with their split, in order of location."""
        names = ", ".join(f'"{n}"' for n in ["stamp", *NARROW] if n not in ("row", "path"))
        kept = self.con.sql(f"select {names} from left_over order by location").to_arrow_table().to_pylist()
        divide(kept, self.policy.test_share)
        return kept


def folders(out: Path, policy: Curation) -> dict[str, Path]:
    """Where the observations of every stage lie, by its name."""
    found = {stage.name: stage_folder(out, stage) for stage in policy.stages}
    for stage in policy.derived:
        found[stage.name] = derived_folder(out, found, stage)
    return found


def views(out: Path, probe: Path, policy: Curation) -> duckdb.DuckDBPyConnection:
    """DuckDB over a catalogue's ledgers: `latest` (what each item is), `verdict` (the last on each), `judgements`, and
    one view a stage of the policy."""
    where = folders(out, policy)
    stages = {f"{stage.name}_all": (where[stage.name], stage_schema(stage)) for stage in policy.stages}
    stages |= {f"{derived.name}_all": (where[derived.name], derived_schema(derived)) for derived in policy.derived}
    con = connect({
        "observations": (probe, OBSERVATION), "decisions": (out / "decisions", DECISION),
        "judgements": (out / "judgements", JUDGEMENT), **stages,
    })  # fmt: skip
    con.execute(LATEST.format(view="latest", table="observations"))
    con.execute(LATEST.format(view="verdict", table="decisions"))
    for stage in policy.stages:
        con.execute(MEASURED.format(view=stage.name, table=f"{stage.name}_all"))
    for derived in policy.derived:
        current = f"select (id, words) from ({said_view(derived)})"
        table = f"(select * from {derived.name}_all where (id, words) in ({current}))"
        con.execute(MEASURED.format(view=derived.name, table=table))
    return con


def divide(clips: list[dict[str, Any]], test_share: float) -> None:
    """Give each clip that has no split one, the same for all of a group.

    A split that is given for a clip of a group counts for the whole group; where several are, the held-back one does:
    'test', else any but 'train'. All others go by a hash of their name, so other clips do not move them, but for a set
    too small for one to fall to 'test': there the lowest hash is taken, and a later clip may have a lower one.
    """
    given: dict[str, str] = {}
    for clip in clips:
        if clip["group"] and clip["split"]:
            rivals = (clip["split"], given.get(clip["group"], clip["split"]))
            given[clip["group"]] = min(rivals, key=lambda split: (split != "test", split == "train", split))
    for clip in clips:
        clip["split"] = clip["split"] or given.get(clip["group"])
    free = {c["group"] or c["id"]: 0.0 for c in clips if not c["split"]}
    for name in free:
        free[name] = int(hash_bytes(name.encode(), 4), 16) / 2**32
    test = {name for name, place in free.items() if place < test_share}
    if not test and len(free) > 1 and not any(c["split"] == "test" for c in clips):
        test = {min(free, key=lambda name: free[name])}  # a small set still needs something to test on
    for clip in clips:
        clip["split"] = clip["split"] or ("test" if (clip["group"] or clip["id"]) in test else "train")


def judge(catalogue: Path, verdicts: Iterable[tuple[str, str, str | None]], person: str) -> None:
    """Record what a person said of clips: (id, keep | drop | undo, reason) each.

    The last word on a clip counts, before every rule, from the next call of `curate` on. Raises `UserError` for
    another verdict, or an id that the catalogue has not seen.
    """
    verdicts = list(verdicts)
    if not verdicts:
        return
    asked = ", ".join(quote(i) for i in {i for i, _, _ in verdicts})
    known = Catalogue(catalogue).ask(f"select distinct id from seen where id in ({asked})")["id"].to_pylist()
    for i, verdict, _ in verdicts:
        if verdict not in ("keep", "drop", "undo"):
            raise UserError(f"'{verdict}' is no verdict: say keep, drop or undo")
        if i not in known:
            raise UserError(f"{catalogue} has no clip {i}: give an id as its clips have it")
    now = datetime.now(UTC)
    order = int(now.timestamp() * 1e6)
    rows = [{"id": i, "verdict": v, "reason": why, "person": person, "time": now.isoformat(timespec="seconds"),
             "nth": order + n} for n, (i, v, why) in enumerate(verdicts)]  # fmt: skip
    append(catalogue / "judgements", f"{order}", rows, JUDGEMENT)
