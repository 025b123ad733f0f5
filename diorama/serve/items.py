"""The tables behind the page of `diorama look`: one row an item with everything that is known of it as a number or a
word, made once a state of the catalogue and kept in a DuckDB file, so that a million items open at once.

The file lies in the catalogue's folder `cache`, which may be deleted at any time.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes, write_aside
from diorama.data import Catalogue
from diorama.data.ledger import JUDGEMENT, connect, quote

FORM = 1  # of the tables; raise it when they change
NUMBERS = ("DOUBLE", "FLOAT", "BIGINT", "INTEGER", "BOOLEAN")
SAMPLED = "random sample"  # the reason of a judgement that counts for estimates
_SEEN = {
    "id": "varchar", "kind": "varchar", "t": "int", "h": "int", "w": "int", "rate": "double", "bytes": "bigint",
    "frame_width": "int", "format": "varchar", "error": "varchar", "caption": "varchar", "label": "int",
    "class_name": "varchar", "licence": "varchar", "origin": "varchar", "author": "varchar", "root": "varchar",
    "asset": "varchar", "start": "double",
}  # fmt: skip
_CLIP = {"side": "least(h, w)", "aspect": "w / h", "seconds": "t / rate", "bytes": "bytes", "t": "t", "rate": "rate"}
FACETS = ("verdict", "reason", "kind", "format", "class_name", "label", "licence", "author", "root", "judged")

# What people said overlies what was seen. Of keep, drop and undo the last counts, and of captions and labels each; an
# empty caption is none.
SHOWN = """
create view shown as select item.* replace (
    nullif(coalesce(said.caption, item.caption), '') as caption, coalesce(said.tag, item.class_name) as class_name),
  said.judged, said.sampled, said.caption is not null as edited
from made.item as item left join said using (id)
"""
SAID = """
select id, last(verdict order by nth) filter (verdict in ('keep', 'drop', 'undo')) as judged,
  coalesce(bool_or(reason = '{sampled}'), false) as sampled,
  last(reason order by nth) filter (verdict = 'caption') as caption,
  last(reason order by nth) filter (verdict = 'label') as tag from judgements group by id
"""


def cache_folder(catalogue: Path) -> Path:
    """Where what can be made again lies: inside the catalogue, or elsewhere where that may not be written to."""
    folder = catalogue / "cache"
    try:
        folder.mkdir(exist_ok=True)
        (folder / ".writable").touch()
        return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="diorama-look-"))


def state(catalogue: Path) -> str:
    """The name of a catalogue's present content; another one after each curation that changed something."""
    decided = sorted(path.name for path in (catalogue / "decisions").glob("*.parquet"))
    return hash_bytes(f"{FORM} {(catalogue / 'catalogue.json').read_text()} {decided}".encode(), 8)


def open_items(catalogue: Catalogue, cache: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB with the views `item` (one row an item, by number `n` in the order of locations; a column
    `stage.measure` for every number and word that a stage gave), `copy` (items left out for another: `n` and that
    one's, `of`), `shown` (items as people have corrected them), and the tables `said` and `selected` (name, n)."""
    path = cache / f"items-{state(catalogue.path)}.duckdb"
    if not path.exists():
        with write_aside(path) as aside:
            _make(catalogue, aside)
        for old in cache.glob("items-*.duckdb"):
            if old != path:
                old.unlink(missing_ok=True)
    con = duckdb.connect(config={"threads": 2})
    con.execute(f"attach {quote(path)} as made (read_only)")
    con.execute("create view item as select * from made.item; create view copy as select * from made.copy; "
                "create view vector as select * from made.vector")  # fmt: skip
    con.execute("create table selected (name varchar, n bigint)")
    given = connect({"judgements": (catalogue.path / "judgements", JUDGEMENT)})
    said = given.sql(SAID.format(sampled=SAMPLED)).to_arrow_table()
    con.register("given", said)
    con.execute("create table said as select * from given")
    con.unregister("given")
    con.execute(SHOWN)
    return con


def _make(catalogue: Catalogue, path: Path) -> None:
    con = catalogue.connection()
    con.execute(f"attach {quote(path)} as made")
    known = _columns(con, "observations")
    seen = [f"o.{name}" if name in known else f"null::{kind} as {name}" for name, kind in _SEEN.items()]
    measured, joins, vectors = [], [], list[tuple[str, str]]()
    for stage in catalogue.stages:
        kinds = {name: kind for name, kind in _columns(con, stage).items() if name not in ("id", "error", "words")}
        vectors += [(stage, name) for name, kind in kinds.items() if kind == "FLOAT[]"]
        columns = [name for name, kind in kinds.items() if kind in (*NUMBERS, "VARCHAR")]
        if columns:
            chosen = ", ".join(f'"{name}" as "{stage}.{name}"' for name in columns)
            # to look for a clip that was measured twice takes the view twice as long as all else
            [(once,)] = con.execute(f"select count(*) = count(distinct id) from {stage}_all").fetchall()
            source = f"{stage}_all" if once else stage
            con.execute(f"create temp table of_{stage} as select id as clip_id, {chosen} from {source}")
            joins.append(f"left join of_{stage} on of_{stage}.clip_id = o.id")
            measured += [f'"{stage}.{name}"' for name in columns]
    clip = [
        f'({value})::double as "clip.{name}"' for name, value in _CLIP.items() if value != "bytes" or "bytes" in known
    ]
    con.execute(f"""
        create table made.item as
        with o as (select * from observations), d as (select * from decisions),
          ruled as (select location, last(verdict order by run) as rule_verdict, last(reason order by run) as rule
            from ledger where actor = 'rule' 
              and location in (select location from d where actor <> 'rule') group by all)
        select (row_number() over (order by o.location) - 1)::int as n, o.location, {", ".join(seen)},
          d.verdict, d.reason, d.metric, d.value, d.threshold, d.partner, d.actor, d.run,
          coalesce(ruled.rule_verdict, d.verdict) as rule_verdict, coalesce(ruled.rule, d.reason) as rule,
          {", ".join([*clip, *measured])}
        from o join d using (location) left join ruled using (location) {" ".join(joins)} order by n
    """)
    con.execute("create table made.copy as select a.n, b.n as of from made.item a join made.item b "
                "on a.partner = b.location where a.verdict = 'drop' order by b.n, a.value desc")  # fmt: skip
    con.execute("create table made.vector (stage varchar, name varchar)")
    if vectors:
        con.executemany("insert into made.vector values (?, ?)", vectors)
    con.execute("detach made")
    con.close()


def _columns(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    return {name: kind for name, kind, *_ in con.sql(f"describe {table}").fetchall()}


@dataclass(frozen=True)
class Filter:
    """Which items are meant; what is empty asks for nothing.

    words are looked for in captions and locations; low and high bound `measure`; `column` is one of `FACETS`, or a word
    that a stage gave, and `equals` its value; `selection` is the name of one made before.
    """

    verdict: str = ""
    reason: str = ""
    words: str = ""
    measure: str = ""
    low: float | None = None
    high: float | None = None
    column: str = ""
    equals: str | None = None
    selection: str = ""

    @property
    def corrected(self) -> bool:
        """Whether it asks for what people may have changed: for `shown`, which takes longer than `item`."""
        return bool(self.words or self.column)

    def where(self, measures: list[str], words: list[str]) -> tuple[str, list[Any]]:
        """As SQL about `shown`, with its values. Raises `UserError` for a measure or column that there is not."""
        parts, given = ["true"], list[Any]()

        def add(condition: str, *values: Any) -> None:
            parts.append(condition)
            given.extend(values)

        if self.verdict:
            add("verdict = ?", self.verdict)
        if self.reason:
            add("reason = ?", self.reason)
        if self.words:
            add("(contains(lower(caption), lower(?)) or contains(lower(location), lower(?)))", self.words, self.words)
        if self.measure:
            value = measure_column(self.measure, measures)
            if self.low is not None:
                add(f"{value} >= ?", self.low)
            if self.high is not None:
                add(f"{value} <= ?", self.high)
        if self.column:
            name = word_column(self.column, words)
            if self.equals is None:
                add(f"{name} is null")
            else:
                add(f"{name}::varchar = ?", self.equals)
        if self.selection:
            add("n in (select n from selected where name = ?)", self.selection)
        return " and ".join(parts), given


def measure_column(name: str, measures: list[str]) -> str:
    """A measure as SQL, null where it is not finite. Raises `UserError` for one that there is not."""
    if name not in measures:
        raise UserError(f"'{name}' is not measured: there are {', '.join(measures) or 'no measures'}")
    return f'case when isfinite("{name}"::double) then "{name}"::double end'


def word_column(name: str, words: list[str]) -> str:
    """A column of words as SQL. Raises `UserError` for one that there is not."""
    if name not in words:
        raise UserError(f"'{name}' is no column to sort sheets by: there are {', '.join(words)}")
    return f'"{name}"'
