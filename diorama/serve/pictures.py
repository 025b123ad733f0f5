"""Small pictures of the items that a report shows: those that the stage `Preview` stored, else decoded, but few."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import duckdb
import numpy as np
import pyarrow.parquet as pq

from diorama.core.progress import progress
from diorama.data import Catalogue
from diorama.data.sources import fetch
from diorama.data.stages.preview import LONGEST
from diorama.media import BadMedia, Part, Reader, Source, resize

SIDE = 112  # pixels along the shorter side
QUALITY = 78
DECODED = 300  # pictures, at most, that are decoded where none is stored
WORKERS = 2

HEIGHT = 96  # pixels on the page

_STORED = """
select id, {picture} as picture from read_parquet(?)
where picture is not null and id in (select unnest(?::varchar[]))
"""
_MIDDLE = "images[len(images) // 2 + 1]"  # of observations of before there were thumbnails
_ROWS = """
select n, id, location, t, rate, start from item
where error is null and id is not null and n in (select unnest(?::int[]))
"""


@dataclass(frozen=True)
class Picture:
    """A JPEG as data URI, and its width in pixels on the page; `n` is the first item that it shows."""

    n: int
    uri: str
    width: int


def stored(catalogue: Catalogue, ids: Sequence[str]) -> dict[str, bytes]:
    """The thumbnail of each clip that the stage `preview` has looked at, as JPEG by id."""
    folder = catalogue.stages.get("preview")
    shards = sorted(map(str, (catalogue.path / folder).glob("*.parquet"))) if folder else []
    if not shards:
        return {}
    picture = "thumbnail" if "thumbnail" in pq.read_schema(shards[0]).names else _MIDDLE
    with duckdb.connect(config={"threads": 2}) as con:
        return dict(con.execute(_STORED.format(picture=picture), [shards, list(ids)]).fetchall())


def originals(catalogue: Catalogue, rows: Sequence[dict[str, Any]]) -> list[Source | None]:
    """Where one frame of each item can be decoded from: its middle. None for what is no longer there.

    rows: id, location, t, rate and start of items.
    """
    kept = catalogue.connection()
    sources: list[Source | None] = []
    for row in rows:
        whole: Path | bytes | None
        try:
            whole = fetch(row["location"])
        except (BadMedia, OSError):
            held = kept.sql("select * from clips where id = ?", params=[row["id"]]).to_arrow_table().to_pylist()
            source = catalogue.media(held[:1])[0] if held else None
            whole = source.source if isinstance(source, Part) else source  # type: ignore[assignment]
        middle = row["t"] // 2 / row["rate"] if row["t"] and row["t"] > 1 and row["rate"] else 0.0
        sources.append(None if whole is None else Part(whole, (row["start"] or 0.0) + middle, 1))
    kept.close()
    return sources


def decoded(sources: Sequence[Source | None], short_side: int, what: str) -> list[np.ndarray | None]:
    """One frame (h, w, 3) uint8 of each source, its shorter side at most `short_side`; None for what gives none.

    what: words for the progress bar.
    """
    there = [source for source in sources if source is not None]
    if not there:
        return [None] * len(sources)
    frames = list[np.ndarray | None]()
    with Reader(WORKERS) as reader, progress(len(there), what, "picture") as bar:
        for result in reader.map(there, short_side=short_side):
            frames.append(None if isinstance(result, BadMedia) else result.frames[0])
            bar.advance()
    found = iter(frames)
    return [None if source is None else next(found) for source in sources]


def pictures(catalogue: Catalogue, con: duckdb.DuckDBPyConnection, wanted: Iterable[int]) -> dict[int, Picture]:
    """Of the items numbered `wanted` in the view `item`, by that number; items of the same content have the same one.

    At most `DECODED` are decoded, the first of `wanted`; the others, and what cannot be read, are left out.
    """
    numbers = list(wanted)
    rows = {row["n"]: row for row in con.sql(_ROWS, params=[numbers]).to_arrow_table().to_pylist()}
    first = {row["id"]: n for n, row in sorted(rows.items(), reverse=True)}
    by_id: dict[str, Picture] = {}
    for identifier, jpeg in stored(catalogue, list({row["id"] for row in rows.values()})).items():
        frame = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if frame is not None:
            by_id[identifier] = _small(first[identifier], frame[..., ::-1])
    lacking = {rows[n]["id"]: rows[first[rows[n]["id"]]] for n in numbers if n in rows and rows[n]["id"] not in by_id}
    todo = list(lacking.values())[:DECODED]
    for row, frame in zip(todo, decoded(originals(catalogue, todo), 2 * SIDE, "pictures to show"), strict=True):
        if frame is not None:
            by_id[row["id"]] = _small(row["n"], frame)
    return {n: by_id[row["id"]] for n, row in rows.items() if row["id"] in by_id}


def _small(n: int, frame: np.ndarray) -> Picture:
    h, w = (min(side, LONGEST * min(frame.shape[:2])) for side in frame.shape[:2])
    y, x = (frame.shape[0] - h) // 2, (frame.shape[1] - w) // 2
    frame = frame[y : y + h, x : x + w]
    share = SIDE / min(h, w)
    if share < 1:
        frame = resize(frame[None], max(round(h * share), 1), max(round(w * share), 1))[0]
    jpeg = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    width = round(HEIGHT * frame.shape[1] / frame.shape[0])
    return Picture(n, f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}", width)
