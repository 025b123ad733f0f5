"""The second step of curation: observations become verdicts.

One clip of each content is kept; then people's judgements and the policy's rules leave clips out. Verdicts that
changed are appended to the ledger, so it holds the history of every decision.
"""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import duckdb
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes
from diorama.data.balance.weights import combined
from diorama.data.catalogue import Catalogue
from diorama.data.derive import derived_folder, derived_schema, said_view
from diorama.data.ledger import (
    DECISION,
    JUDGEMENT,
    MEASURED,
    OBSERVATION,
    SINGLE,
    append,
    connect,
    cut_files,
    quote,
    stage_folder,
    stage_schema,
)
from diorama.data.rules import Curation, Drop, together
from diorama.data.settled import comes_twice, keep_verdicts, last_verdicts, rank
from diorama.data.splits import TEST, divide

VERDICTS = ("keep", "drop", "undo", "caption", "label")  # of people

# Clips: files, but for those that are cut, and the clips which these become, with the words that people gave them. An
# empty caption is none; a class that was given by name has the number that other clips of that class have.
_LATEST = """
create view captioned as
  select id, last(reason order by nth) as words from judgements where verdict = 'caption' group by id;
create view latest as with
  clips as (select * from files where location not in (select location from parents)
    union all by name select * from pieces),
  labelled as (select id, last(reason order by nth) as words from judgements where verdict = 'label' group by id),
  numbered as (select class_name as words, min(label) as number from files where class_name is not null group by words)
select clips.* replace (
  nullif(coalesce(captioned.words, caption), '') as caption,
  coalesce(labelled.words, class_name) as class_name,
  case when labelled.words is null then label else number end as label)
from clips left join captioned using (id) left join labelled using (id)
  left join numbered on numbered.words = labelled.words
"""

_SOUND = """
create view sound as select * exclude (copy, original, twin, original_twin, pieces) from ranked where twin = 1;
create view copies as select id, "group", asset, split from ranked where copy > 1 or twin > 1;
create view clip as
  select id, t, h, w, least(h, w) as side, w / h as aspect, t / rate as seconds, rate, bytes from sound;
create table alike (id varchar, other varchar);
insert into alike select twin.id, first.id from ranked as twin join ranked as first
  on twin.original_twin = first.location where twin.twin > 1;
create table cut (id varchar, reason varchar, partner varchar, metric varchar, value double, threshold double,
  actor varchar);
insert into cut select id, coalesce(reason, 'judged'), null, null, null, null, person
  from judged join sound using (id) where verdict = 'drop';
create view left_over as select *, id in (select id from judged where verdict = 'keep') as chosen
  from sound where id not in (select id from cut);
"""

_VERDICTS = """
create view verdicts as
  select location, id, 'drop' as verdict, error as reason, null as partner, null as metric, null as value,
    null as threshold, 'rule' as actor from ranked where error is not null
  union all select location, id, 'drop', 'cut into clips', null, '{cut}.starts', pieces, 1, 'rule' from ranked
    where pieces is not null
  union all select location, id, 'drop', 'same bytes as another clip', original, null, null, null, 'rule'
    from ranked where copy > 1
  union all select location, id, 'drop', 'same pixels as another clip', original_twin, null, null, null, 'rule'
    from ranked where twin > 1
  union all select location, sound.id, case when cut.id is null then 'keep' else 'drop' end,
    case when cut.id is not null then cut.reason when wanted.id is not null then coalesce(wanted.reason, 'judged')
      else 'sound and unlike the others' end,
    partner, metric, value, threshold,
    case when cut.id is not null then actor when wanted.id is not null then person else 'rule' end
    from sound left join cut using (id) left join (select * from judged where verdict = 'keep') as wanted using (id)
"""

# All that decides splits.
_DIVIDED = """
select (select sum(belongs) from ranked where twin = 1), (select sum(belongs) from ranked where copy > 1 or twin > 1),
  (select md5(string_agg(id || other, ' ' order by id, other)) from alike)
"""

# Verdicts are compared by a hash of what they say: a join that carries numbers takes half the time.
_CHANGED = """
with new as (select *, {said} as said from verdicts),
old as (select location, {said} as said, reason = 'cut otherwise now' as gone from verdict)
select location, id, coalesce(verdict, 'drop') as verdict, coalesce(reason, 'cut otherwise now') as reason, partner,
  metric, value, threshold, coalesce(actor, 'rule') as actor
from new full join old using (location)
where new.said is distinct from old.said and (new.said is not null or not gone)
order by location
""".format(said="hash(id, verdict, reason, partner, metric, value, threshold, actor)")


class Decision:
    """Verdicts on everything that was observed, by `policy`; nothing is written before `record`.

    settled: names what `con` says in the view `settled`, which no rule changes.
    """

    def __init__(self, out: Path, probe: Path, policy: Curation) -> None:
        self.out, self.policy = out, policy
        self.con = views(out, probe, policy)
        roots = [root for (root,) in self.con.execute("select distinct root from observations").fetchall()]
        away = [root for root in roots if not os.path.exists(root)]
        self.con.execute("create table away as select unnest(?::varchar[])", [away])
        self.con.execute("create table cache as select ? as folder", [str(out / "cache")])
        cutting = [stage_folder(out, policy.cut)] if policy.cut else []
        ranked = rank(self.con, out / "cache", [probe, out / "judgements", *cutting])
        self.con.execute(_SOUND)
        for kind, rules in groupby(policy.rules, type):
            if kind is Drop:
                self._leave_out(together(self.con, [rule for rule in rules if isinstance(rule, Drop)]))
            else:
                for rule in rules:
                    found = rule.verdicts(self.con)
                    self._leave_out(found.append_column("reason", pa.array([rule.name] * len(found), pa.string())))
        self.con.execute(_VERDICTS.format(cut=policy.cut.name if policy.cut else ""))
        self.kept = self._kept(ranked)

    def _leave_out(self, found: pa.Table) -> None:
        self.con.register("found", found)
        self.con.execute("insert into cut select id, reason, partner, metric, value, threshold, 'rule' from found")
        self.con.unregister("found")

    def cuts(self) -> dict[str, int]:
        """How many clips each rule of the policy left out."""
        counted = self.con.execute("select reason, count(*) from cut where actor = 'rule' group by reason").fetchall()
        return dict.fromkeys((rule.name for rule in self.policy.rules), 0) | dict(counted)

    def record(self, run: int) -> None:
        """Append the verdicts that changed to the ledger, with the policy that took them."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        signed = f"{quote(self.policy.fingerprint)} as policy, {run:d} as run, {quote(time)} as time"
        self.con.execute(f"create table changed as select *, {signed} from ({_CHANGED})")
        changed = self.con.sql("select * from changed").to_arrow_table().select(DECISION.names).cast(DECISION)
        if len(changed):
            append(self.out / "decisions", f"{run:06d}", changed)
            keep_verdicts(self.con, self.out / "cache", run)

    def _kept(self, ranked: str) -> int:
        """Make the view `kept`: the clips left, with their split, caption and weight; returns their number.

        It reads the view `placed`, which says of every sound clip what no rule decides: `store` makes it anew with the
        address of its media.
        """
        divided = self._divided()
        query = (
            "select sound.* replace (divided.split as split), captioned.words as given "
            f"from sound join read_parquet({quote(divided)}) as divided using (id) left join captioned using (id)"
        )
        self.con.execute(f"create view settled as {query}")
        self.settled = f"{ranked} {query}"
        self.con.execute("create view placed as select *, null::bigint as address from settled")
        places = [name if "." in name else f"placed.{name}" for name in self.policy.caption]
        words = "coalesce(" + ", ".join(f"nullif(trim({place}), '')" for place in places) + ")"
        caption = f"case when placed.given is null then {words} else nullif(trim(placed.given), '') end"
        joins = [
            f"left join {stage} using (id)"
            for stage in dict.fromkeys(name.split(".")[0] for name in self.policy.caption if "." in name)
        ]
        if self.policy.balance:
            self.con.register("weighed", combined(self.con, self.policy.balance))
            joins.append("join weighed using (id)")
        weight = "weighed.weight" if self.policy.balance else "1.0::double"
        self.con.execute(
            f"create view kept as select placed.* replace ({caption} as caption), {weight} as weight "
            f"from placed {' '.join(joins)} where id not in (select id from cut)"
        )
        [(count,)] = self.con.execute("select count(*) from left_over").fetchall()
        return count

    def _divided(self) -> Path:
        """A Parquet file of the split of every sound clip, made where it is not there yet.

        All count, also those that rules leave out: so a threshold moves no clip to another split.
        """
        shares = {TEST: self.policy.test_share}
        asked = self.con.execute(_DIVIDED).fetchall()
        name = hash_bytes(f"{asked} {shares}".encode(), 8)
        folder = self.out / "splits"
        if not (folder / f"{name}.parquet").exists():
            clips, copies = (
                self.con.sql(f'select id, "group", asset, split from {part}').to_arrow_table()
                for part in ("sound", "copies")
            )
            splits = divide(clips, self.con.table("alike").to_arrow_table(), shares, copies)
            append(folder, name, pa.table({"id": clips["id"], "split": splits}))
        return folder / f"{name}.parquet"


def folders(out: Path, policy: Curation) -> dict[str, Path]:
    """Where the observations of every stage lie, by its name."""
    found = {stage.name: stage_folder(out, stage) for stage in policy.looking}
    for stage in policy.derived:
        found[stage.name] = derived_folder(out, found, stage)
    return found


def views(out: Path, probe: Path, policy: Curation) -> duckdb.DuckDBPyConnection:
    """DuckDB over a catalogue's ledgers: `latest` (what each item is), `verdict` (the last on each), `judgements`, and
    one view a stage of the policy."""
    where = folders(out, policy)
    stages = {f"{stage.name}_all": (where[stage.name], stage_schema(stage)) for stage in policy.looking}
    stages |= {f"{derived.name}_all": (where[derived.name], derived_schema(derived)) for derived in policy.derived}
    con = connect({
        "observations": (probe, OBSERVATION), "decisions": (out / "decisions", DECISION),
        "judgements": (out / "judgements", JUDGEMENT), **stages,
    })  # fmt: skip
    cache = out / "cache"
    last_verdicts(con, cache, view="verdict", table="decisions")
    for stage in policy.looking:
        one = MEASURED if comes_twice(con, cache, stage.name, where[stage.name]) else SINGLE
        con.execute(one.format(view=stage.name, table=f"{stage.name}_all", last="error", without=""))
    cut_files(con, "observations", policy.cut.name if policy.cut else None)
    con.execute(_LATEST)
    for n, derived in enumerate(policy.derived):
        current = f"select (id, words) from ({said_view(derived, policy.derived[:n])})"
        table = f"(select * from {derived.name}_all where (id, words) in ({current}))"
        con.execute(MEASURED.format(view=derived.name, table=table, last="nth desc", without=", nth, words"))
    return con


def judge(catalogue: Path, verdicts: Iterable[tuple[str, str, str | None]], person: str) -> None:
    """Record what a person said of clips, (id, verdict, reason) each; it counts from the next call of `curate` on.

    keep, drop, undo: the last of these on a clip counts, before every rule; the reason may be None. caption, label: the
    reason is the clip's new caption (empty for none), or the name of its class; None takes back what was said. Raises
    `UserError` for another verdict, or an id that the catalogue has not seen.
    """
    verdicts = list(verdicts)
    asked = ", ".join(quote(i) for i in {i for i, _, _ in verdicts}) or "null"
    found = Catalogue(catalogue).ask(f"select distinct id from observations where id in ({asked})")
    known = set(found["id"].to_pylist())
    for i, _, _ in verdicts:
        if i not in known:
            raise UserError(f"{catalogue} has no clip {i}: give an id as its clips have it")
    record(catalogue, verdicts, person)


def record(catalogue: Path, verdicts: Iterable[tuple[str, str, str | None]], person: str) -> None:
    """As `judge`, for one who has made sure already that the catalogue has seen these ids."""
    verdicts = list(verdicts)
    for _, verdict, _ in verdicts:
        if verdict not in VERDICTS:
            raise UserError(f"'{verdict}' is no verdict: say {', '.join(VERDICTS[:-1])} or {VERDICTS[-1]}")
    if not verdicts:
        return
    now = datetime.now(UTC)
    order = int(now.timestamp() * 1e6)
    rows = [{"id": i, "verdict": v, "reason": why, "person": person, "time": now.isoformat(timespec="seconds"),
             "nth": order + n} for n, (i, v, why) in enumerate(verdicts)]  # fmt: skip
    append(catalogue / "judgements", f"{order}", pa.Table.from_pylist(rows, JUDGEMENT))
