"""The third step of curation: the clips kept become a Lance dataset, beside one that holds their media.

media.lance   every clip that was ever kept: its bytes, or the file that holds it. Only appended to, so that what is
              left out and comes back later need not be read again.
clips.lance   the clips kept and what is said of them, with the row of each in media.lance as `address`; a version each
              time that changes.
"""

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diorama.core.errors import UserError
from diorama.core.files import write_text
from diorama.core.progress import progress
from diorama.data.catalogue import read_head
from diorama.data.ledger import CLIP, MEDIA, THREADS, quote
from diorama.data.observe import identity
from diorama.data.settled import keep, kept
from diorama.data.sources import fetch
from diorama.media import BadMedia

STORE = 4096  # clips a Lance fragment, at most
STORE_BYTES = 128 << 20
MEDIA_FOLDER, CLIPS_FOLDER, HEAD = "media.lance", "clips.lance", "catalogue.json"
HEAD_KEY = b"diorama"  # where a version of clips.lance holds what catalogue.json said of it

# What a clip was stored from. Bytes are the same wherever they lie; a reference is to one state of one file, because a
# clip that lies elsewhere now, or a table that names another file, would else stay a dead reference for ever.
_PLACE = (
    "case when bytes > {inline_bytes:d} or asset is not null then md5(location || ' ' || stamp) else '' end as place"
)
_PLACED = (
    "select * exclude (place) from (select *, {place} from settled) left join stored using (id, place) order by id"
)
# The manifest's hash is that of every clip, in any order: what is told of it and what was decided of it.
_CLIPS = """
select {columns}, (digest >> 64)::ubigint as low, (digest & {word})::ubigint as high, hash(line, rest, address) as whole
from (select *, md5_number(line) as digest
  from (select *, concat(id, told, ' ', weight, ' ', split, chr(10), caption) as line from kept))
"""


def store(
    con: duckdb.DuckDBPyConnection, out: Path, settled: str, inline_bytes: int, head: dict[str, Any]
) -> dict[str, Any]:
    """Bring the datasets at `out` to hold exactly the clips of the view `kept`; `head` says what else describes them.

    Returns the whole of what catalogue.json is to say; whoever calls writes that last (`finish`). Files of at most
    `inline_bytes` are kept inside. settled: as `Decision.settled`. Raises `UserError` where a file that is needed is
    away.
    """
    _sweep(out)
    _place(con, out, settled, inline_bytes)
    columns = ", ".join(f'"{name}"' for name in CLIP.names)
    con.execute("set threads = 1")  # keeps the order of `placed`: to sort takes longer than a second thread saves
    found = con.sql(_CLIPS.format(columns=columns, word=2**64 - 1)).to_arrow_table()
    con.execute(f"set threads = {THREADS}")
    if not pc.all(pc.less(found["id"][:-1], found["id"][1:])).as_py():
        found = found.sort_by("id")
    low, high, whole = (int(np.bitwise_xor.reduce(found[name].to_numpy())) for name in ("low", "high", "whole"))
    head = {"format": 2, "clips": len(found), "hash": f"{high:016x}{low:016x}", "rows": f"{whole:016x}", **head}
    before = read_head(out)
    same = all(before.get(name) == head[name] for name in ("rows", "probe", "cut", "stages"))
    version = before.get("version") if same and (out / CLIPS_FOLDER).exists() else None
    if version is None:
        table = found.select(CLIP.names).cast(CLIP)
        described = table.replace_schema_metadata({HEAD_KEY: json.dumps(head)})  # of a release, when it is old
        version = _write(described, out / CLIPS_FOLDER, "overwrite")
    return head | {"version": version}


def _sweep(out: Path) -> None:
    """Remove what a killed process left half-written in the datasets, of which this process is the sole writer."""
    for uri in (out / MEDIA_FOLDER, out / CLIPS_FOLDER):
        if any((uri / "_versions").glob("*.manifest")):  # every version stays, and what belongs to none goes
            lance.dataset(uri).cleanup_old_versions(timedelta(days=36500), delete_unverified=True)
            for left in uri.glob("_versions/.tmp*"):  # which Lance passes over
                left.unlink()
        elif not (out / HEAD).exists():  # it was killed while it made them; of a finished catalogue nothing goes
            shutil.rmtree(uri, ignore_errors=True)


def _place(con: duckdb.DuckDBPyConnection, out: Path, settled: str, inline_bytes: int) -> None:
    """Store the media of clips that are kept and have none stored, and make the view `placed` anew: every sound clip
    with the row of its media as `address`, null where there is none."""
    uri, cache = out / MEDIA_FOLDER, out / "cache"
    if not uri.exists():  # what is stored anew lies in other rows
        for path in cache.glob("placed-*.parquet"):
            path.unlink()
    place = _PLACE.format(inline_bytes=inline_bytes)
    query = _PLACED.format(place=place)

    def seen() -> str:
        return f"{settled} {lance.dataset(uri).count_rows() if uri.exists() else 0}"

    path = kept(cache, "placed", seen(), query)
    if not path.exists():
        _register(con, uri)
    con.execute(f"create or replace view placed as {f'from {quote(path)}' if path.exists() else query}")
    needed = f"id, location, bytes, asset, frame_width, {place}"
    new = con.sql(f"select {needed} from kept where address is null order by id").to_arrow_table()
    if len(new):
        with progress(len(new), "storing", "clips") as bar:
            for part in _parts(new.to_pylist(), inline_bytes, uri):
                _write(part, uri, "append")
                bar.advance(len(part))
        _register(con, uri)
    if len(new) or not path.exists():
        path = keep(con, cache, "placed", seen(), query)
    con.execute(f"create or replace view placed as from {quote(path)}")


def finish(out: Path, head: dict[str, Any]) -> None:
    """Write catalogue.json: from now on this is the catalogue."""
    text = json.dumps(head, indent=1) + "\n"
    if not (out / HEAD).exists() or (out / HEAD).read_text() != text:
        write_text(out / HEAD, text)


def add_vectors(con: duckdb.DuckDBPyConnection, out: Path, stage: str, column: str, fingerprint: str) -> None:
    """Bring vectors (n, d) float32 that a stage derived into media.lance, as a column `STAGE_COLUMN_FINGERPRINT`.

    A column is written beside the others, and no media anew. Rows without a vector are null.
    """
    dataset, name = lance.dataset(out / MEDIA_FOLDER), f"{stage}_{column}_{fingerprint}"
    held = dataset.to_table(columns=["id"]).append_column("row", pa.array(range(dataset.count_rows()), pa.int64()))
    con.register("held", held)
    asked = f"select {stage}.{column} as vector from held left join {stage} using (id) order by row"
    vectors = con.sql(asked).to_arrow_table()["vector"].combine_chunks()
    con.unregister("held")
    [(width,)] = con.execute(f"select max(len({column})) from {stage}").fetchall()
    if width is None:
        return
    table = pa.table({name: vectors.cast(pa.list_(pa.float32())).cast(pa.list_(pa.float32(), width))})
    if name in dataset.schema.names:
        if dataset.to_table(columns=[name]).combine_chunks().equals(table.combine_chunks()):
            return
        dataset.drop_columns([name])  # clips were added since, or their words changed
    dataset.add_columns(table.to_reader())


def _register(con: duckdb.DuckDBPyConnection, uri: Path) -> None:
    """Table `stored`: id, place and row of everything in media.lance."""
    held = lance.dataset(uri).to_table(columns=["id", "place"]) if uri.exists() else MEDIA.empty_table()
    held = held.select(["id", "place"]).append_column("address", pa.array(range(len(held)), pa.int64()))
    con.register("held", held)
    con.execute("create or replace table stored as select * from held")
    con.unregister("held")


def _write(table: pa.Table, uri: Path, mode: str) -> int:
    mode = mode if uri.exists() else "create"
    try:
        return lance.write_dataset(table, uri, schema=table.schema, mode=mode).version
    except OSError as error:
        error.filename = str(uri)  # which Lance does not say
        raise


def _parts(clips: list[dict[str, Any]], inline_bytes: int, uri: Path) -> Iterator[pa.Table]:
    """Tables of `MEDIA`, each one commit and at most one Lance fragment."""
    part: list[dict[str, Any]] = []
    size = 0
    for clip in clips:
        row = {"id": clip["id"], "place": clip["place"], **_media(clip, inline_bytes, uri)}
        part.append(row)
        size += len(row.get("media") or b"")
        if len(part) == STORE or size >= STORE_BYTES:
            yield pa.Table.from_pylist(part, MEDIA)
            part, size = [], 0
    if part:
        yield pa.Table.from_pylist(part, MEDIA)


def _media(clip: dict[str, Any], inline_bytes: int, uri: Path) -> dict[str, Any]:
    """A clip's bytes, or the path of the file that holds it. Raises `UserError` where it is not what was looked at."""
    data: Path | bytes | None
    try:
        data = fetch(clip["location"])
    except BadMedia:
        data = None
    # a clip that was cut refers to its file, which it shares with others
    large = isinstance(data, Path) and (clip["bytes"] > inline_bytes or clip["asset"] is not None)
    if isinstance(data, Path) and not large:
        data = data.read_bytes()
    if data is None or (not large and identity(data, clip["frame_width"]) != (clip["asset"] or clip["id"])):
        data = _stored(uri, clip["id"])
    if data is None:
        raise UserError(
            f"{clip['location']} is away or changed since it was looked at: bring it back, or curate its folder again"
        )
    return {"path": str(data)} if large else {"media": data}


def _stored(uri: Path, identifier: str) -> bytes | None:
    """A clip's bytes as they were stored from another place: one that was left out may come back without its source."""
    if not uri.exists():
        return None
    held = lance.dataset(uri).to_table(["media"], filter=f"id = {quote(identifier)} and media is not null", limit=1)
    return held["media"][0].as_py() if len(held) else None
