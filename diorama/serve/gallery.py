"""What the page of `diorama look` asks of a catalogue: rows, counts and pictures, and where judgements go."""

import threading
from collections import OrderedDict
from math import isfinite
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.data import Catalogue
from diorama.data.decide import record
from diorama.data.observe import identity
from diorama.data.sources import fetch
from diorama.media import BadMedia, Reader
from diorama.serve import precision
from diorama.serve.items import (
    FACETS,
    NUMBERS,
    SAMPLED,
    Filter,
    cache_folder,
    measure_column,
    open_items,
    state,
    word_column,
)
from diorama.serve.projection import Projection
from diorama.serve.thumbnails import Thumbnails
from diorama.serve.versions import Versions

PREVIEW = 192  # pixels along the shorter side of a picture that is not stored, at most
HELD = 20_000  # of those, kept in memory
SELECTIONS = 20  # kept; older ones are forgotten
BINS = 80  # of a histogram
SHEETS = 60  # values that a sheet is made of, at most
_SORTS = {"location": "n", "random": "hash(n)", "value": "value nulls last, n"}
_ROW = (
    "n, id, location, kind, t, h, w, rate, start, format, caption, label, class_name, licence, verdict, reason, "
    "metric, value, threshold, partner, actor, judged, edited"
)


class Gallery:
    """A catalogue as the page sees it: items by number, in the order of their locations.

    Safe to use from threads. What is judged is written at once and shown; it changes the catalogue when it is curated
    again. What takes time to make is kept in the catalogue's folder `cache`, which may be deleted at any time.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.catalogue = Catalogue(path)
        self.cache = cache_folder(self.path)
        self._con = open_items(self.catalogue, self.cache)
        precision.prepare(self._con)
        kinds = {name: kind for name, kind, *_ in self._con.sql("describe shown").fetchall()}
        self.measures = [name for name, kind in kinds.items() if "." in name and kind in NUMBERS]
        self.words = [*FACETS, *(name for name, kind in kinds.items() if "." in name and kind == "VARCHAR")]
        self.versions = Versions(self.path)
        self.thumbnails = self._stored()
        self._maps: dict[str, Projection] = {}
        self._selections = 0
        self._lock, self._decoding, self._mapping = threading.Lock(), threading.Lock(), threading.Lock()
        self._reader = Reader(1)
        self._previews: OrderedDict[int, bytes] = OrderedDict()

    def about(self) -> dict[str, Any]:
        """Counts by verdict and reason, and the names of measures, columns of words, vectors, and classes."""
        reasons = self.rows("select verdict, reason, count(*) as n from item group by all order by n desc, reason")
        judged = self.rows("select judged as verdict, count(*) as n from said where judged <> 'undo' "
                           "group by all order by 1")  # fmt: skip
        classes = self.rows("select class_name, count(*) as n from shown where class_name is not null "
                            "group by all order by n desc, class_name limit 200")  # fmt: skip
        copies = self.rows("select reason, count(*) as n from copy join item using (n) group by all order by n desc")
        return {"path": str(self.path), "hash": self.catalogue.hash(), "items": sum(r["n"] for r in reasons),
                "reasons": reasons, "judged": judged, "measures": self.measures, "words": self.words,
                "classes": [row["class_name"] for row in classes], "vectors": self.vectors(),
                "copies": [row["reason"] for row in copies]}  # fmt: skip

    def items(
        self, asked: Filter, *, sort: str = "location", down: bool = False, offset: int = 0, limit: int = 200
    ) -> dict[str, Any]:
        """A page of items: `total` that fit, and the `rows` from `offset`, at most 1,000.

        `shown` of a row is the value of the filter's measure. sort: location, random, value (of the rule that left it
        out) or measure. Raises `UserError` for another measure or order.
        """
        where, given = asked.where(self.measures, self.words)
        shown = measure_column(asked.measure, self.measures) if asked.measure else "value"
        order = _SORTS.get(sort)
        if sort == "measure" and asked.measure:
            order = f"{shown} {'desc' if down else 'asc'} nulls last, n"
        if order is None:
            raise UserError(f"'{sort}' is no order: use location, random, value, or measure with a measure")
        items = "shown" if asked.corrected else "item"
        [total] = self.rows(f"select count(*) as n from {items} where {where}", given)
        picked = self.numbers(f"select n from {items} where {where} order by {order} "
                              f"limit {min(limit, 1000):d} offset {offset:d}", given)  # fmt: skip
        return {"total": total["n"], "rows": self.some(picked, shown)}

    def some(self, numbers: list[int], shown: str = "value") -> list[dict[str, Any]]:
        """The rows of items, in the order of `numbers`; `shown` is an SQL expression."""
        found = self.rows(f"select {_ROW}, {shown} as shown from shown where n in (select unnest(?::int[]))", [numbers])
        rows = {row["n"]: row for row in found}
        return [rows[n] for n in numbers]

    def sheets(self, asked: Filter, column: str, across: int = 12) -> list[dict[str, Any]]:
        """Items by the value of a column: its commonest values, or tenths of a measure from low to high; of each its
        count and the first rows. Raises `UserError` for another column."""
        where, given = asked.where(self.measures, self.words)
        number = column in self.measures
        name = measure_column(column, self.measures) if number else word_column(column, self.words)
        value = (
            f"case when {name} is not null then ntile(10) over (partition by {name} is null order by {name}) end"
            if number
            else name
        )
        sheets = self.rows(
            f"select key::varchar as value, count(*) as n, min(v) as low, max(v) as high, min(n, {across:d}) as first "
            f"from (select n, {name} as v, {value} as key from shown where {where}) group by key "
            f"order by {'key' if number else 'count(*) desc, key'} nulls last limit {SHEETS}", given)  # fmt: skip
        rows = {
            row["n"]: row for row in self.some([n for s in sheets for n in s["first"]], name if number else "value")
        }
        for sheet in sheets:
            sheet["rows"] = [rows[n] for n in sheet.pop("first")]
            if not number:
                sheet["low"] = sheet["high"] = None
        return sheets

    def histogram(self, measure: str) -> dict[str, Any]:
        """Counts of a measure in even bins from `low` to `high`, by whether the clip is kept.

        `least` and `most` are its extremes; where a few clips lie far out, the bins at the ends hold them.
        """
        value = measure_column(measure, self.measures)
        [ends] = self.rows(f"select min(v) as least, max(v) as most, quantile_cont(v, [0.005, 0.995]) as inner "
                           f"from (select {value} as v from item)")  # fmt: skip
        blank: dict[str, Any] = {"keep": [0] * BINS, "drop": [0] * BINS}
        if ends["least"] is None:
            return blank | {"low": 0.0, "high": 1.0, "least": 0.0, "most": 1.0}
        low, high = ends["least"], ends["most"]
        inner = ends["inner"][1] - ends["inner"][0]
        if inner and high - low > 4 * inner:
            low, high = max(low, ends["inner"][0] - inner / 2), min(high, ends["inner"][1] + inner / 2)
        out = blank | {"low": low, "high": high, "least": ends["least"], "most": ends["most"]}
        for row in self.rows(
            f"select greatest(least(floor(({value} - ?) / ?), {BINS - 1}), 0)::int as bin, verdict, count(*) as n "
            f"from item where ({value}) is not null group by all", [low, (high - low) / BINS or 1.0]):  # fmt: skip
            out[row["verdict"]][row["bin"]] += row["n"]
        return out

    def threshold(
        self, measure: str, below: float | None, above: float | None, across: int = 12
    ) -> list[dict[str, Any]]:
        """What thresholds on a measure would leave out, for each that is given: `cut` clips of `clips` that have the
        measure, of which `kept` are kept today; and the rows nearest to it, `out` and `stay`, the nearest first."""
        value = measure_column(measure, self.measures)
        found = []
        for side, line, sign, rest in (("below", below, "<", ">="), ("above", above, ">", "<=")):
            if line is None:
                continue
            [counts] = self.rows(
                f"select count(*) as clips, count(*) filter ({value} {sign} ?) as cut, "
                f"count(*) filter ({value} {sign} ? and verdict = 'keep') as kept "
                f"from item where {value} is not null and error is null", [line, line])  # fmt: skip
            near = f"order by abs({value} - ?), n limit {across:d}"
            out, stay = (self.numbers(f"select n from item where {value} {way} ? and error is null {near}", [line] * 2)
                         for way in (sign, rest))  # fmt: skip
            rows = self.some([*out, *stay], value)
            sides = {"out": rows[: len(out)], "stay": rows[len(out) :]}
            found.append({"side": side, "line": line, **counts, **sides})
        return found

    def groups(self, reason: str = "", offset: int = 0, limit: int = 20) -> dict[str, Any]:
        """Clips that were left out for another one, by that one: `total` groups, and of each its rows, the one kept
        first."""
        chosen = "from copy join item using (n) where reason = ?" if reason else "from copy"
        given = [reason] if reason else []
        [total] = self.rows(f"select count(distinct copy.of) as n {chosen}", given)
        found = self.rows(f"select copy.of as kept, list(copy.n) as others {chosen} group by copy.of "
                          f"order by copy.of limit {limit:d} offset {offset:d}", given)  # fmt: skip
        groups = [[g["kept"], *g["others"][:50]] for g in found]
        rows = {row["n"]: row for row in self.some(sorted({n for group in groups for n in group}))}
        return {"total": total["n"], "groups": [[rows[n] for n in group] for group in groups]}

    def item(self, n: int) -> dict[str, Any]:
        """All that is known of an item: its `row`, that of the one kept instead, measures, and verdicts on it."""
        self._item(n)
        [full] = self.rows("select * from shown where n = ?", [n])
        partner = self.numbers("select n from item where location = ?", [full["partner"]]) if full["partner"] else []
        history = self.versions.history(full["location"])
        measured = {k: v if not isinstance(v, float) or isfinite(v) else str(v)
                    for k, v in full.items() if "." in k and v is not None}  # fmt: skip
        seen = {k: v for k, v in full.items() if "." not in k and v is not None}
        return {"row": self.some([n])[0], "partner": self.some(partner)[0] if partner else None, "seen": seen,
                "measured": measured, "history": history}  # fmt: skip

    def judge(self, ids: list[str], verdict: str, reason: str | None, person: str) -> None:
        """Record what a person said of clips, as `diorama.data.judge`. Raises `UserError` for an unknown id."""
        known = self.rows("select distinct id from item where id in (select unnest(?::varchar[]))", [ids])
        for missing in set(ids) - {row["id"] for row in known}:
            raise UserError(f"{self.path} has no clip {missing}: give an id as its clips have it")
        record(self.path, [(i, verdict, reason) for i in ids], person)
        cursor = self._con.cursor()
        with self._lock:
            cursor.execute("insert into said select i, null, false, null, null from unnest(?::varchar[]) as t(i) "
                           "where i not in (select id from said)", [ids])  # fmt: skip
            column = {"caption": "caption", "label": "tag"}.get(verdict, "judged")
            value = reason if column != "judged" else verdict
            cursor.execute(f"update said set {column} = ? where id in (select unnest(?::varchar[]))", [value, ids])
            if reason == SAMPLED and column == "judged":
                cursor.execute("update said set sampled = true where id in (select unnest(?::varchar[]))", [ids])

    def select(self, numbers: Any) -> dict[str, Any]:
        """Keep a selection of items, to filter by its name; returns that and its size."""
        with self._lock:
            self._selections += 1
            name = f"s{self._selections}"
            cursor = self._con.cursor()
            cursor.register("chosen", pa.table({"n": np.asarray(numbers, np.int64)}))
            cursor.execute("insert into selected select ?, n from chosen", [name])
            cursor.unregister("chosen")
            cursor.execute("delete from selected where name = ?", [f"s{self._selections - SELECTIONS}"])
        return {"selection": name, "items": len(numbers)}

    def select_change(self, a: int, b: int, old: tuple[str, str] | None, new: tuple[str, str]) -> dict[str, Any]:
        """A selection of what changed alike between two runs; see `Versions.locations`."""
        cursor = self._con.cursor()
        cursor.register("changed", self.versions.locations(a, b, old, new))
        found = cursor.execute("select n from item join changed using (location)").fetchnumpy()["n"]
        cursor.unregister("changed")
        return self.select(found)

    def vectors(self) -> list[str]:
        """The columns that a map can be made of, as `stage.column`."""
        return [f"{r['stage']}.{r['name']}" for r in self.rows("select * from vector order by stage, name")]

    def map(self, column: str) -> Projection:
        """The map by a vector of `vectors`; made when it is first asked for. Raises `UserError` for another one."""
        if column not in self.vectors():
            raise UserError(f"'{column}' is no vector: there are {', '.join(self.vectors()) or 'none, so no map'}")
        with self._mapping:
            if column not in self._maps:
                stage, name = column.split(".")
                folder = self.path / self.catalogue.stages[stage]
                self._maps[column] = Projection(self._con.cursor(), folder, name, self.cache,
                                                f"{state(self.path)}-{stage}")  # fmt: skip
            return self._maps[column]

    def colours(self, column: str, by: str) -> tuple[np.ndarray, dict[str, Any]]:
        """Codes and legend of the map's points by a measure or a column of words; see `Projection.colours`."""
        if by not in self.measures:
            word_column(by, self.words)
        return self.map(column).colours(self._con.cursor(), by, by in self.measures)

    def matching(self, column: str, asked: Filter) -> np.ndarray:
        """For every point of the map, whether the filter means it: (p,) uint8."""
        where, given = asked.where(self.measures, self.words)
        fits = self._con.cursor().execute(f"select n from shown where {where}", given).fetchnumpy()["n"]
        return np.isin(self.map(column).n, np.asarray(fits)).astype(np.uint8)

    def sample(self, size: int) -> list[dict[str, Any]]:
        """Rows to judge, drawn at random from every rule and from what is kept."""
        return self.some(precision.sample(self._con.cursor(), size))

    def estimates(self) -> dict[str, Any]:
        """How far people agree with the rules; see `precision.estimates`."""
        return precision.estimates(self._con.cursor())

    def media(self, n: int) -> Path | bytes | None:
        """An item's encoded media, as they were when it was looked at; None where they are no more, or never were.

        Of a clip that is cut from a longer file, that file.
        """
        item = self._item(n)
        if item["id"] is None:  # not media: nothing to show, whatever the file holds
            return None
        whole = item["asset"] or item["id"]
        try:
            found = fetch(item["location"])
            if identity(found, item["frame_width"]) == whole:
                return found
        except (BadMedia, OSError):
            pass
        asked = f"id = '{item['id']}' and media is not null"
        held = self.catalogue.stored.to_table(columns=["media"], filter=asked, limit=1)
        return held["media"][0].as_py() if len(held) else None

    def preview(self, n: int) -> bytes:
        """A small JPEG of an item's middle: the stored one, else decoded; grey for what cannot be read."""
        if self.thumbnails and (stored := self.thumbnails.get(n, larger=True)):
            return stored
        with self._decoding:
            if n in self._previews:
                self._previews.move_to_end(n)
                return self._previews[n]
            frame = self._frame(n)
            data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
            self._previews[n] = data
            if len(self._previews) > HELD:
                self._previews.popitem(last=False)
            return data

    def packed(self, numbers: list[int], larger: bool = False) -> bytes:
        """Stored pictures of many items in one answer: their sizes (uint32, little-endian), then the JPEGs one after
        another. A size is 0 where none is stored, and 2**32 - 1 where it is still being packed. They are thumbnails, or
        what is `larger` of them."""
        if not self.thumbnails:
            return bytes(4 * len(numbers))
        pending = self.thumbnails.pending  # before looking: a picture may be packed meanwhile
        images = [self.thumbnails.get(n, larger) for n in numbers]
        sizes = [len(image) or (2**32 - 1 if pending else 0) for image in images]
        return b"".join([np.array(sizes, "<u4").tobytes(), *images])

    def frames(self, n: int) -> list[bytes]:
        """All stored pictures of an item, in the order of time."""
        identifier = self._item(n)["id"]
        return self.thumbnails.frames(identifier) if self.thumbnails and identifier else []

    def close(self) -> None:
        """End the decoding process and the thread that packs, and let go of the tables."""
        if self.thumbnails:
            self.thumbnails.close()
        self._reader.close()
        self.versions.close()
        self._con.close()

    def rows(self, question: str, given: list[Any] | None = None) -> list[dict[str, Any]]:
        """The answer to SQL."""
        found = self._con.cursor().execute(question, given or [])  # one a thread; `sql` would plan it twice
        names = [name for name, *_ in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def numbers(self, question: str, given: list[Any] | None = None) -> list[int]:
        """The answer to SQL that has one column."""
        return [n for (n,) in self._con.cursor().execute(question, given or []).fetchall()]

    def _stored(self) -> Thumbnails | None:
        folder = self.catalogue.stages.get("preview")
        if folder is None or not any((self.path / folder).glob("*.parquet")):
            return None
        [count] = self.rows("select count(*) as n from item")
        return Thumbnails(self.path / folder, self.cache, self._con, count["n"])

    def _frame(self, n: int) -> np.ndarray:
        item, media = self._item(n), self.media(n)
        try:
            if media is None:
                raise BadMedia("no longer there")
            middle = item["t"] // 2 / item["rate"] if item["t"] and item["t"] > 1 and item["rate"] else 0.0
            start = (item["start"] or 0.0) + middle
            return self._reader.read(media, short_side=PREVIEW, start=start, count=1).frames[0]
        except BadMedia:
            return np.full((PREVIEW, PREVIEW, 3), 160, np.uint8)

    def _item(self, n: int) -> dict[str, Any]:
        found = self.rows("select id, location, t, rate, frame_width, asset, start from item where n = ?", [n])
        if not found:
            raise UserError(f"there is no item {n}")
        return found[0]
