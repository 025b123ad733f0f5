"""What follows from the ledgers alone, whatever the rules: kept in the catalogue's cache, so that it is made once.

It takes longer than all that rules ask: which clip counts of those with one content, which clips were measured twice,
and the last verdict on each. A changed threshold reads it. Any file may be deleted at any time.
"""

from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from diorama.core.files import hash_bytes, write_aside
from diorama.data.ledger import CLIP, LATEST, MANIFEST, quote, shards

_RANKS = (
    "copy, original, twin, original_twin, pieces, told, rest, belongs"  # columns of `ranked` beside those of `latest`
)
_DECIDED = ["id", "caption", "split", "weight"]  # of a clip, only rules and the policy say
_TOLD = [name for name in MANIFEST if name not in _DECIDED]
_REST = [name for name in CLIP.names if name not in (*MANIFEST, "address")]

VERSION = 2  # of what `ranked` and the views that it is made from say; raise it when they say something else

_JUDGED = """
create view judged as select id, last(verdict order by nth) as verdict, last(reason order by nth) as reason,
  last(person order by nth) as person from judgements where verdict in ('keep', 'drop', 'undo')
  group by id having last(verdict order by nth) <> 'undo';
"""

# First come of one content: a test clip before a training clip (so that none leaks), a captioned one, one whose source
# is still there before one of a source that was moved or deleted. Of equal pixels, what a person chose before all that.
# copy: the place among those of the same bytes; original: the location of the first of them. twin, original_twin: the
# same of those first ones with equal pixels. pieces: into how many clips a file is cut; it is none itself then.
# told, rest, belongs: 64 bits of the hash of what the manifest says of a clip, of all else, of what decides its split;
# the first is a part of the manifest's hash, so it is one that no version of DuckDB changes.
_RANKED = """
with listed as materialized (select * from latest),
twice as (select id from listed where error is null group by id having count(*) > 1),
copied as (select location, row_number() over bytes as copy, first_value(location) over bytes as original
  from listed where error is null and id in (from twice)
  window bytes as (partition by id
    order by (split = 'test') desc nulls last, caption is null, root in (from away), location)),
single as (select listed.* from listed left join copied using (location) where error is null and coalesce(copy, 1) = 1),
alike_pixels as (select pixels from single where pixels is not null group by pixels having count(*) > 1),
twins as (select location, row_number() over same as twin, first_value(location) over same as original_twin
  from single left join (select id, verdict as said from judged) using (id) where pixels in (from alike_pixels)
  window same as (partition by pixels
    order by (said = 'keep') desc nulls last, (said = 'drop') nulls first,
      (split = 'test') desc nulls last, caption is null, root in (from away), location)),
everything as (select listed.*, case when error is null then coalesce(copy, 1) end as copy,
    coalesce(original, location) as original,
    case when error is null and coalesce(copy, 1) = 1 then coalesce(twin, 1) end as twin,
    coalesce(original_twin, location) as original_twin, null::bigint as pieces
  from listed left join copied using (location) left join twins using (location)
  union all by name select * exclude (metric, starts, ends, seconds), len(starts) as pieces from parents)
select *,
  md5_number_lower(to_json({{{told}}})::varchar) as told,
  hash({rest}) as rest, hash(id, "group", asset, split) as belongs
from everything order by id, location
"""

# What was kept of the last verdicts, and those that came later.
_LAST = """
create view {view} as select * from {view}_later union all by name
select * from read_parquet({kept}) where location not in (select location from {view}_later)
"""


def rank(con: duckdb.DuckDBPyConnection, cache: Path, folders: Iterable[Path]) -> str:
    """View `ranked`: everything listed, sorted by id and location, as told at `_RANKED`; and view `judged`. Returns a
    name for what `ranked` says.

    `con` has the views `latest`, which from now on reads the same file, `parents` and `judgements`, which follow from
    the shards in `folders`, and the table `away` of roots that are not there.
    """
    con.execute(_JUDGED)
    told = ", ".join(f"'{name}': \"{name}\"" for name in _TOLD)
    query = _RANKED.format(told=told, rest=", ".join(f'"{name}"' for name in _REST))
    away = con.execute("select * from away order by all").fetchall()
    seen = " ".join(map(_held, folders))
    path = keep(con, cache, "ranked", f"{VERSION} {seen} {away}", query)
    con.execute(f"create view ranked as select * from read_parquet({quote(path)})")
    con.execute(f"create or replace view latest as select * exclude ({_RANKS}) from ranked where pieces is null")
    return path.stem


def comes_twice(con: duckdb.DuckDBPyConnection, cache: Path, stage: str, folder: Path) -> bool:
    """Whether `folder`, shown as view `STAGE_all`, holds a clip more than once."""
    query = f"select id from {stage}_all group by id having count(*) > 1"
    return pq.read_metadata(keep(con, cache, f"twice-{stage}", _held(folder), query)).num_rows > 0


def kept(cache: Path, what: str, seen: str, query: str) -> Path:
    """Where `keep` keeps what `query` finds in the contents that `seen` names; it may not be there yet."""
    return cache / f"{what}-{hash_bytes(f'{seen} {query}'.encode(), 8)}.parquet"


def keep(con: duckdb.DuckDBPyConnection, cache: Path, what: str, seen: str, query: str) -> Path:
    """The Parquet file of what `query` finds in the contents that `seen` names; those of other contents are deleted."""
    path = kept(cache, what, seen, query)
    if not path.exists():
        _write(con, path, query)
        for old in cache.glob(f"{what}-*.parquet"):
            if old != path:
                old.unlink(missing_ok=True)
    return path


def last_verdicts(con: duckdb.DuckDBPyConnection, cache: Path, *, view: str, table: str) -> None:
    """View `view`: the last verdict on each location in `table`, which holds all that were ever given."""
    runs = _runs(cache)
    if not runs:
        con.execute(LATEST.format(view=view, table=table))
    else:
        later = f"(select * from {table} where run > {runs[-1]:d})"
        con.execute(LATEST.format(view=f"{view}_later", table=later))
        con.execute(_LAST.format(view=view, kept=quote(_verdicts(cache, runs[-1]))))


def keep_verdicts(con: duckdb.DuckDBPyConnection, cache: Path, run: int) -> None:
    """Keep what the view `verdict` says after `run`, once more verdicts than are kept came since that was."""
    runs = _runs(cache)
    held = pq.read_metadata(_verdicts(cache, runs[-1])).num_rows if runs else 0
    [(later,)] = con.execute(f"select count(*) from decisions where run > {runs[-1] if runs else 0:d}").fetchall()
    if later > held:
        _write(con, _verdicts(cache, run), "select * from verdict")
        for old in runs:
            _verdicts(cache, old).unlink(missing_ok=True)


def _verdicts(cache: Path, run: int) -> Path:
    return cache / f"verdicts-{run:06d}.parquet"


def _runs(cache: Path) -> list[int]:
    return sorted(int(path.stem.partition("-")[2]) for path in cache.glob("verdicts-*.parquet"))


def _held(folder: Path) -> str:
    """What a folder of observations holds: its name is the fingerprint of what observed."""
    return f"{folder.name} {shards(folder)}"


def _write(con: duckdb.DuckDBPyConnection, path: Path, query: str) -> None:
    with write_aside(path) as aside:
        con.execute(f"copy ({query}) to {quote(aside)} (format parquet, compression zstd)")
