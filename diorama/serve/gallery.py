"""What the page of `diorama look` asks of a catalogue: rows, counts and pictures, and where judgements go."""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from diorama.core.errors import UserError
from diorama.data import Catalogue, judge
from diorama.data.ledger import JUDGEMENT, connect
from diorama.data.observe import identity
from diorama.data.sources import fetch
from diorama.media import BadMedia, Reader

PREVIEW = 192  # pixels along the shorter side, at most
HELD = 20_000  # previews kept in memory
BINS = 60  # of a histogram
_NUMBERS = ("DOUBLE", "BIGINT", "BOOLEAN")
_SORTS = {"location": "location", "random": "hash(n)"}


class Gallery:
    """A catalogue as the page sees it: items by number, in the order of their locations.

    Safe to use from threads. What is judged is written at once and shown; it changes the catalogue when it is curated
    again.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.catalogue = Catalogue(path)
        self._con = self.catalogue.connection()
        self._con.execute("""
            create table item as select row_number() over (order by location) - 1 as n, location, o.id, o.kind, o.t,
              o.h, o.w, o.rate, o.frame_width, o.caption, o.label, o.class_name, o.licence,
              d.verdict, d.reason, d.metric, d.value, d.threshold, d.partner, d.actor
            from observations o join decisions d using (location)
        """)
        self._con.execute("create table judged (id varchar, verdict varchar)")
        for stage in self.catalogue.stages:  # tables, which other threads' cursors see
            columns = self._con.sql(f"describe {stage}").fetchall()
            numbers = [f'"{name}"' for name, kind, *_ in columns if kind in _NUMBERS]
            self._con.execute(f"create table stage_{stage} as select {', '.join(['id', *numbers])} from {stage}")
        given = connect({"given": (self.path / "judgements", JUDGEMENT)})
        said = given.execute("select id, last(verdict order by nth) from given group by id").fetchall()
        if said:
            self._con.executemany("insert into judged values (?, ?)", said)
        self.measures = self._measures()
        self._lock = threading.Lock()
        self._reader = Reader(1)
        self._previews: OrderedDict[int, bytes] = OrderedDict()

    def about(self) -> dict[str, Any]:
        """Counts by verdict and reason, and the names of measures."""
        reasons = self._rows("select verdict, reason, count(*) as n from item group by all order by n desc, reason")
        judged = self._rows("select verdict, count(*) as n from judged where verdict <> 'undo' group by all order by 1")
        return {"path": str(self.path), "hash": self.catalogue.hash(), "items": sum(r["n"] for r in reasons),
                "reasons": reasons, "judged": judged, "measures": self.measures}  # fmt: skip

    def items(
        self, *, verdict: str = "", reason: str = "", words: str = "", measure: str = "", low: float | None = None,
        high: float | None = None, sort: str = "location", down: bool = False, offset: int = 0, limit: int = 200,
    ) -> dict[str, Any]:  # fmt: skip
        """A page of items: `total` that fit, and the `rows` from `offset`, at most 1,000.

        `words` are looked for in captions and locations; `low` and `high` bound `measure`, a name of `about`; `sort` is
        location, random or measure. Raises `UserError` for another measure or order.
        """
        source, value = self._joined(measure)
        where = ["true"]
        given: list[Any] = []
        for column, wanted in (("verdict", verdict), ("reason", reason)):
            if wanted:
                where.append(f"item.{column} = ?")
                given.append(wanted)
        if words:
            where.append("(contains(lower(item.caption), lower(?)) or contains(lower(item.location), lower(?)))")
            given += [words] * 2
        for bound, sign in ((low, ">="), (high, "<=")):
            if bound is not None and measure:
                where.append(f"{value} {sign} ?")
                given.append(bound)
        order = (
            f"{value} {'desc' if down else 'asc'} nulls last, n" if sort == "measure" and measure else _SORTS.get(sort)
        )
        if order is None:
            raise UserError(f"'{sort}' is no order: use location, random, or measure with a measure")
        matching = f"from {source} where {' and '.join(where)}"
        [total] = self._rows(f"select count(*) as n {matching}", given)
        rows = self._rows(
            f"select item.*, judged.verdict as judged, {value} as shown from {source} "
            f"left join judged on judged.id = item.id where {' and '.join(where)} "
            f"order by {order} limit {min(limit, 1000):d} offset {offset:d}",
            given,
        )
        return {"total": total["n"], "rows": rows}

    def histogram(self, measure: str) -> dict[str, Any]:
        """Counts of a measure in even bins from `low` to `high`, by whether the clip is kept."""
        source, value = self._joined(measure)
        [ends] = self._rows(f"select min({value}) as low, max({value}) as high from {source}")
        if ends["low"] is None:
            return {"low": 0.0, "high": 1.0, "keep": [0] * BINS, "drop": [0] * BINS}
        width = (ends["high"] - ends["low"]) / BINS or 1.0
        rows = self._rows(
            f"select least(floor(({value} - ?) / ?), {BINS - 1})::int as bin, item.verdict, count(*) as n "
            f"from {source} where {value} is not null group by all",
            [ends["low"], width],
        )
        out: dict[str, Any] = {"low": ends["low"], "high": ends["high"], "keep": [0] * BINS, "drop": [0] * BINS}
        for row in rows:
            out[row["verdict"]][row["bin"]] += row["n"]
        return out

    def explain(self, n: int) -> str:
        """All that is known of an item."""
        return "\n\n".join(map(str, self.catalogue.explain(self._item(n)["location"])))

    def judge(self, ids: list[str], verdict: str, reason: str | None, person: str) -> None:
        """Record a verdict (keep, drop, undo) on clips. Raises `UserError` for an id that was not seen."""
        judge(self.path, [(i, verdict, reason) for i in ids], person)
        cursor = self._con.cursor()
        for i in ids:
            cursor.execute("delete from judged where id = ?", [i])
            cursor.execute("insert into judged values (?, ?)", [i, verdict])

    def media(self, n: int) -> Path | bytes | None:
        """An item's encoded media, as they were when it was looked at; None where they are no more, or never were."""
        item = self._item(n)
        if item["id"] is None:  # not media: nothing to show, whatever the file holds
            return None
        try:
            found = fetch(item["location"])
            if identity(found, item["frame_width"]) == item["id"]:
                return found
        except (BadMedia, OSError):
            pass
        held = self.catalogue.dataset.to_table(columns=["media"], filter=f"id = '{item['id']}'", limit=1)
        return held["media"][0].as_py() if len(held) else None

    def preview(self, n: int) -> bytes:
        """A small JPEG of an item's middle; grey for what cannot be read."""
        with self._lock:
            if n in self._previews:
                self._previews.move_to_end(n)
                return self._previews[n]
            frame = self._frame(n)
            data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
            self._previews[n] = data
            if len(self._previews) > HELD:
                self._previews.popitem(last=False)
            return data

    def close(self) -> None:
        """End the decoding process, and let go of the tables."""
        self._reader.close()
        self._con.close()

    def _frame(self, n: int) -> np.ndarray:
        item, media = self._item(n), self.media(n)
        try:
            if media is None:
                raise BadMedia("no longer there")
            middle = item["t"] // 2 / item["rate"] if item["t"] and item["t"] > 1 and item["rate"] else 0.0
            return self._reader.read(media, short_side=PREVIEW, start=middle, count=1).frames[0]
        except BadMedia:
            return np.full((PREVIEW, PREVIEW, 3), 160, np.uint8)

    def _item(self, n: int) -> dict[str, Any]:
        rows = self._rows("select * from item where n = ?", [n])
        if not rows:
            raise UserError(f"there is no item {n}")
        return rows[0]

    def _measures(self) -> list[str]:
        found = []
        for stage in self.catalogue.stages:
            columns = self._rows(f"describe stage_{stage}")
            found += [f"{stage}.{c['column_name']}" for c in columns if c["column_type"] in _NUMBERS]
        return found

    def _joined(self, measure: str) -> tuple[str, str]:
        """The tables that a measure needs, and the expression that is its value."""
        if not measure:
            return "item", "item.value"
        if measure not in self.measures:
            raise UserError(f"'{measure}' is not measured: there are {', '.join(self.measures) or 'no measures'}")
        stage = measure.split(".")[0]
        return f"item left join stage_{stage} as {stage} on {stage}.id = item.id", f"{measure}::double"

    def _rows(self, question: str, given: list[Any] | None = None) -> list[dict[str, Any]]:
        cursor = self._con.cursor()  # one a thread
        return cursor.sql(question, params=given or []).to_arrow_table().to_pylist()
