"""What a catalogue is made of: Parquet rows of what was seen and decided, never edited, and the clips that train.

observations/probe/<fingerprint>/<shard>.parquet    one row an item seen
observations/<stage>/<fingerprint>/<shard>.parquet  one row a clip measured
judgements/<name>.parquet                           what people said of clips
decisions/<run>.parquet                             one row a verdict that changed
policies/<fingerprint>.txt                          the stages and rules that decided
media.lance                                         every clip that was ever kept: bytes or a reference
cache/                                              what deciding and looking keep; may be deleted at any time
latents/<codec>/<window>/<shard>/                   what codecs made of clips (`run/latents.py`); may be deleted too
models/<stage>/<fingerprint>/                       what a derived stage fitted once
splits/<key>.parquet                                which split every clip belongs to
clips.lance                                         the clips kept, and what is said of them; a version each time
catalogue.json                                      the version of clips.lance that is complete, written last
"""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diorama.core.config import to_text
from diorama.core.files import hash_bytes, write_aside
from diorama.data.sources.said import SAID
from diorama.data.stages.stage import Derived, Stage
from diorama.media.media import short

THREADS = 2  # of DuckDB

_SAID = [(name, kind) for name, (kind, _) in SAID.items() if name not in ("rate", "frame_width")]
_SEEN = [
    ("kind", pa.string()),  # image or video
    ("t", pa.int32()),
    ("h", pa.int32()),
    ("w", pa.int32()),
    ("rate", pa.float64()),  # frames per second; null for a still
    ("frame_width", pa.int32()),  # of a strip: frames side by side in one picture; else null
    ("sound", pa.bool_()),
    ("bytes", pa.int64()),
    ("format", pa.string()),
]

OBSERVATION = pa.schema([
    ("location", pa.string()),
    ("root", pa.string()),
    ("stamp", pa.string()),
    ("run", pa.int32()),
    ("id", pa.string()),  # hash of the stored bytes
    ("pixels", pa.string()),  # hash of the decoded frames
    ("error", pa.string()),
    *_SEEN,
    *_SAID,
    ("more", pa.string()),  # whatever else was said, as JSON
])  # fmt: skip

DECISION = pa.schema([
    ("location", pa.string()),
    ("id", pa.string()),
    ("verdict", pa.string()),  # keep or drop
    ("reason", pa.string()),
    ("partner", pa.string()),  # the location kept in its place
    ("metric", pa.string()),  # what the rule looked at, as stage.measure
    ("value", pa.float64()),
    ("threshold", pa.float64()),
    ("actor", pa.string()),  # rule, or who judged
    ("policy", pa.string()),  # fingerprint of the stages and rules
    ("run", pa.int32()),
    ("time", pa.string()),
])  # fmt: skip

JUDGEMENT = pa.schema([
    ("id", pa.string()),
    ("verdict", pa.string()),  # keep, drop, undo; caption or label
    ("reason", pa.string()),  # of a caption or a label, the new one
    ("person", pa.string()),
    ("time", pa.string()),
    ("nth", pa.int64()),  # order of judgements
])  # fmt: skip

# What a clip is to a training run; the hash of these columns over all clips is the catalogue's identity.
MANIFEST = ["id", "caption", "label", "class_name", "actions", "split", "kind", "t", "h", "w", "rate", "frame_width",
            "weight"]  # fmt: skip

CLIP = pa.schema([
    ("id", pa.string()),
    ("address", pa.int64()),  # row in media.lance
    ("location", pa.string()),
    ("asset", pa.string()),  # of a clip cut from a longer file: that file's id
    ("start", pa.float64()),  # and the second at which it starts
    *_SEEN,
    *_SAID,
    ("weight", pa.float64()),  # in training; 1 on average
    ("more", pa.string()),
])  # fmt: skip

MEDIA = pa.schema([
    ("id", pa.string()),
    ("place", pa.string()),  # of a reference: which file in which state
    ("media", pa.large_binary()),  # null for a large file
    ("path", pa.string()),  # of a large file, which stays where it is
])  # fmt: skip


def probe_folder(catalogue: Path, limits: Any) -> Path:
    """Where observations made with these limits lie; another version or other limits make another folder."""
    return catalogue / "observations" / "probe" / hash_bytes(f"probe 1 {limits}".encode(), 8)


_ARROW = {
    float: pa.float64(), int: pa.int64(), bool: pa.bool_(), str: pa.string(), bytes: pa.binary(),
    list[float]: pa.list_(pa.float64()), list[int]: pa.list_(pa.int64()), list[str]: pa.list_(pa.string()),
    list[bytes]: pa.list_(pa.binary()), np.ndarray: pa.list_(pa.float32()),
}  # fmt: skip


KEYS = pa.schema([("id", pa.string()), ("error", pa.string())])  # first in every stage's observations
WORDS = [pa.field("words", pa.string()), pa.field("nth", pa.int64())]  # then in a derived one's: made of what, and when
CUTS = pa.schema([*KEYS, ("starts", pa.list_(pa.int64())), ("ends", pa.list_(pa.int64())),
                  ("seconds", pa.list_(pa.float64()))])  # fmt: skip  # of a stage that cuts


def stage_columns(stage: Stage | Derived) -> list[pa.Field]:
    """What a stage measures."""
    return [pa.field(name, _ARROW[kind]) for name, kind in stage.columns.items()]


def stage_schema(stage: Stage) -> pa.Schema:
    """The columns of a stage's observations."""
    return pa.schema([*KEYS, *stage_columns(stage)])


def stage_folder(catalogue: Path, stage: Stage) -> Path:
    """Where a stage's observations lie; another version or other parameters make another folder."""
    text = f"{stage.name} {stage.version}\n{to_text(stage, compared=True)}"
    return catalogue / "observations" / stage.name / hash_bytes(text.encode(), 8)


def fitting(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table, with an error in place of values that are not of the types that their stage promised."""
    try:
        return pa.Table.from_pylist(rows, schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        if len(rows) == 1:
            wrong = {"id": rows[0]["id"], "error": f"a value of another type than its column: {short(error)}"}
            return pa.Table.from_pylist([wrong], schema)
        half = len(rows) // 2
        return pa.concat_tables([fitting(rows[:half], schema), fitting(rows[half:], schema)])


def shards(folder: Path) -> str:
    """What a folder of shards holds: the hash of their names, as none is ever edited."""
    return hash_bytes(" ".join(sorted(path.name for path in folder.glob("*.parquet"))).encode(), 8)


def append(folder: Path, name: str, table: pa.Table) -> None:
    """Write a table as `folder/name.parquet`, whole or not at all."""
    with write_aside(folder / f"{name}.parquet") as aside:
        pq.write_table(table, aside, compression="zstd")


def connect(tables: dict[str, tuple[Path, pa.Schema]]) -> duckdb.DuckDBPyConnection:
    """DuckDB with a view a ledger; empty where nothing was written yet, null where an older file lacks a column."""
    con = duckdb.connect(config={"threads": THREADS})
    con.execute("set parquet_metadata_cache = true")  # views upon views ask each shard many times what it holds
    for name, (folder, schema) in tables.items():
        con.register(f"blank_{name}", schema.empty_table())
        written = f"read_parquet({quote(glob.escape(str(folder)) + '/*.parquet')}, union_by_name = true)"
        source = f" union all by name select * from {written}" if any(folder.glob("*.parquet")) else ""
        con.execute(f"create view {name} as select * from blank_{name}{source}")
    return con


def batched(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` values, the last one shorter."""
    values = list(values)
    return (values[i : i + size] for i in range(0, len(values), size))


def quote(text: Path | str) -> str:
    """An SQL string."""
    return "'" + str(text).replace("'", "''") + "'"


# The last word on each location. A later run's row replaces an earlier one's.
LATEST = """
create view {view} as select * from {table}
where (location, run) in (select (location, max(run)) from {table} group by location)
"""


# One row a clip: a shard that was cut off may have been measured again, and of derived rows the last one counts. SINGLE
# is the same, and faster, where no clip comes twice.
SINGLE = "create view {view} as select * from {table}"
MEASURED = """
create view {view} as select * exclude (copy{without}) from
(select *, row_number() over (partition by id order by {last}) as copy from {table}) where copy = 1
"""


_PIECES = """
create view pieces as select * exclude (metric, starts, ends, seconds, first, last, second) replace (
    id as asset, second as start,
    location || '@' || first || '-' || last as location,
    md5(id || ' ' || first || ' ' || last) as id, md5(pixels || ' ' || first || ' ' || last) as pixels,
    (last - first)::int as t, case when last - first > 1 then kind else 'image' end as kind,
    case when last - first > 1 then rate end as rate, actions[first + 1:last] as actions,
    coalesce("group", id) as "group")  -- so that no two of one file come to lie in different splits
from (select *, unnest(starts) as first, unnest(ends) as last, unnest(seconds) as second from parents)
"""
_CUT = """from files join (select id, starts, ends, seconds from {cut}) using (id)
where files.error is null and len(starts) > 0 and not (starts = [0] and ends = [t])"""
_UNCUT = "from (select *, null::int[] as starts, null::int[] as ends, null::double[] as seconds from files) limit 0"


def cut_files(con: duckdb.DuckDBPyConnection, table: str, cut: str | None) -> None:
    """Views: `files`, the last word of `table` on each; `parents`, those that the stage `cut` cuts; and `pieces`, the
    clips which they become. `asset` (the file's id) and `start` (seconds) are null but for these."""
    con.execute(LATEST.format(view="file", table=table))
    con.execute("create view files as select *, null::varchar as asset, null::double as start from file")
    source = _CUT.format(cut=cut) if cut else _UNCUT
    con.execute(f"create view parents as select *, '{cut}.starts' as metric {source}")
    con.execute(_PIECES)
