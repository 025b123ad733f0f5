"""Stages that look at no media: columns derived from what other stages measured and what is said of clips.

Their rows lie where those of other stages do. The fingerprint of their folder hashes what they read from, too, and the
files of their weights; a row also keeps the hash of the words that it was made from, so that a changed caption is
derived from anew.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from diorama.core.config import to_text
from diorama.core.files import hash_bytes, hash_file
from diorama.core.progress import progress
from diorama.data.ledger import KEYS, WORDS, append, batched, fitting, quote, stage_columns
from diorama.data.stages.stage import Batch, Derived

ROWS = 1024  # clips a shard


def derived_schema(stage: Derived) -> pa.Schema:
    """The columns of a derived stage's observations."""
    return pa.schema([*KEYS, *WORDS, *stage_columns(stage)])


def derived_folder(catalogue: Path, sources: Mapping[str, Path], stage: Derived) -> Path:
    """Where a derived stage's observations lie, beside those of `sources`, the stages before it."""
    text = [
        f"{stage.name} {stage.version}",
        to_text(stage, compared=True),
        *(hash_file(path) for path in stage.weights),
    ]
    text += [sources[read.split(".")[0]].name for read in stage.reads if "." in read]
    return catalogue / "observations" / stage.name / hash_bytes("\n".join(text).encode(), 8)


def said_view(stage: Derived, earlier: Sequence[Derived]) -> str:
    """SQL: for every clip its id, and as `words` the hash of what is said of it that decides this stage's values.

    earlier: the derived stages before it; what they read counts where it reads from them.
    """
    words = [f"coalesce({read}::varchar, '')" for read in sorted(_said(stage, earlier))]
    hashed = f"md5(concat_ws('|', {', '.join(words)}))" if words else "''"
    return f"select distinct on (id) id, {hashed} as words from latest where error is null order by id, location"


def _said(stage: Derived, earlier: Sequence[Derived]) -> set[str]:
    read = {read.split(".")[0] for read in stage.reads if "." in read}
    others = [_said(other, earlier[:n]) for n, other in enumerate(earlier) if other.name in read]
    return {read for read in stage.reads if "." not in read}.union(*others)


def derive(
    con: duckdb.DuckDBPyConnection, stage: Derived, folder: Path, models: Path, earlier: Sequence[Derived] = ()
) -> int:
    """Give every clip that lacks one a row of `stage`, a shard at a time; returns their number.

    `con` has the view `latest`, and one a stage that this one reads; `earlier` as in `said_view`.
    """
    last = f"select (id, last(words order by nth)) from {stage.name}_all group by id"
    lacking = f"({said_view(stage, earlier)}) where (id, words) not in ({last})"
    [(count,)] = con.execute(f"select count(*) from {lacking}").fetchall()
    if not count:
        return 0
    function = stage.prepare(models, lambda n: _read(con, stage, f"select id from latest order by md5(id) limit {n:d}"))
    schema = derived_schema(stage)
    todo = con.execute(f"select id, words from {lacking} order by id").fetchall()
    with progress(count, stage.name, "clips") as bar:
        for part in batched(todo, ROWS):
            ids, words = [i for i, _ in part], dict(part)
            table = _read(con, stage, f"select unnest([{', '.join(map(quote, ids))}])")
            rows = [{"words": words[row["id"]], "nth": time.time_ns(), **row} for row in _rows(function, table, stage)]
            append(folder, hash_bytes("".join(map("".join, part)).encode()), fitting(rows, schema))
            bar.advance(len(part))
    return count


def _read(con: duckdb.DuckDBPyConnection, stage: Derived, ids: str) -> pa.Table:
    """`id` and what the stage reads of the clips that SQL `ids` gives, sorted by id; null where it is not known."""
    others = dict.fromkeys(read.split(".")[0] for read in stage.reads if "." in read)
    columns = ", ".join(f'{read if "." in read else "clip." + read} as "{read}"' for read in stage.reads)
    joins = " ".join(f"left join {other} using (id)" for other in others)
    found = f"select distinct on (id) * from latest where error is null and id in ({ids}) order by id, location"
    return con.sql(f"select clip.id as id, {columns} from ({found}) as clip {joins} order by clip.id").to_arrow_table()


def _rows(function: Batch, table: pa.Table, stage: Derived) -> Iterator[dict[str, Any]]:
    columns = function(table)
    if set(columns) - {"error"} != set(stage.columns) or any(len(values) != len(table) for values in columns.values()):
        raise ValueError(f"the stage {stage.name} gave columns {sorted(columns)} of other names or lengths")
    for k, identifier in enumerate(table["id"].to_pylist()):
        yield {"id": identifier, **{name: values[k] for name, values in columns.items()}}
