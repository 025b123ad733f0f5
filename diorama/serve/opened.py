"""Numbers that open their items: how many there are, some of them to look at, and where the page of `diorama look`
shows them all.

A number is counted by the same SQL that `diorama look` answers, over the same table. Items that SQL alone can name
(words of captions, errors of stages) have no address there and open in the report only.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlencode

from diorama.data import Catalogue
from diorama.serve.items import FACETS, NUMBERS, Filter, cache_folder, open_items

LOOK = "http://127.0.0.1:8765/"  # where `diorama look` serves unless told otherwise
NAMES = 200  # locations listed behind a number, at most
PICTURES = 8  # shown behind a number, unless it asks for others
COPIES = ("same bytes as another clip", "same pixels as another clip")
CUT = "cut into clips"

# One row a distinct clip that could be read: what rules see.
_SOUND = f"""
create view sound as select * from shown where error is null
  and not (verdict = 'drop' and actor = 'rule' and reason in {(*COPIES, CUT)})
"""


@dataclass(frozen=True)
class Example:
    """An item to look at: its number in `diorama look`, its file, what is said of it, and whether it is readable."""

    n: int
    name: str
    note: str = ""
    readable: bool = True


@dataclass(frozen=True)
class Number:
    """A count and what it opens: `sheets` of examples by title, and up to `NAMES` locations."""

    count: int
    sheets: tuple[tuple[str, tuple[Example, ...]], ...] = ()
    names: tuple[str, ...] = ()
    link: str | None = None


def fragment(asked: Filter) -> str:
    """A filter as the part of an address after `#`: its fields by name, URL-encoded, empty ones left out.

    A `column` without `equals` asks for items that have none of it.

    >>> fragment(Filter(verdict="drop", reason="not sharp"))
    'verdict=drop&reason=not+sharp'
    """
    values = {f.name: getattr(asked, f.name) for f in fields(asked)}
    return urlencode({k: v for k, v in values.items() if v is not None and (v != "" or k == "equals")})


@dataclass
class Items:
    """A catalogue's items as numbers; remembers in `wanted` which of them the page shows."""

    catalogue: Catalogue
    wanted: dict[int, Example] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.con = open_items(self.catalogue, cache_folder(self.catalogue.path))
        # hundreds of questions follow: as a table, each costs a third of what the view over two tables costs
        self.con.execute("create table held as from shown; drop view shown; alter table held rename to shown")
        self.con.execute(_SOUND)
        kinds = {name: kind for name, kind, *_ in self.con.sql("describe shown").fetchall()}
        self.measures = [name for name, kind in kinds.items() if "." in name and kind in NUMBERS]
        self.words = [*FACETS, *(name for name, kind in kinds.items() if "." in name and kind == "VARCHAR")]
        roots = self.con.execute("select distinct root from item").fetchall()
        self._roots = {os.path.dirname(root) for (root,) in roots if root}

    def rows(self, question: str, given: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The answer to SQL about `shown` (all items), `sound` (clips that rules saw) and `said` (by people)."""
        answer = self.con.execute(question, list(given))
        names = [name for name, *_ in answer.description or ()]
        return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

    def one(self, question: str, given: Sequence[Any] = ()) -> Any:
        """The single value of an answer."""
        [(value,)] = self.con.execute(question, list(given)).fetchall()
        return value

    def asked(self, asked: Filter, note: str = "null", pictures: int = PICTURES) -> Number:
        """The items that a filter means, as a number that opens in `diorama look` too.

        note: an SQL expression, said below each picture.
        """
        where, given = asked.where(self.measures, self.words)
        found = self.where(where, given, note=note, pictures=pictures)
        return Number(found.count, found.sheets, found.names, LOOK + "#" + fragment(asked))

    def where(
        self, where: str, given: Sequence[Any] = (), *, table: str = "shown", note: str = "null",
        pictures: int = PICTURES,
    ) -> Number:  # fmt: skip
        """The items for which SQL holds, as a number; examples in an order that tells nothing."""
        count = self.one(f"select count(*) from {table} where {where}", given)
        if not count:
            return Number(0)
        rows = self._some(f"from {table} where {where} order by hash(n) limit {NAMES}", given, note)
        names = tuple(sorted(self.name(row["location"]) for row in rows))
        return Number(count, (("", self._shown(rows[:pictures])),), names)

    def sheet(self, source: str, given: Sequence[Any] = (), note: str = "null") -> tuple[Example, ...]:
        """Examples that SQL chooses: `source` is what follows `select`, ordered and limited."""
        return self._shown(self._some(source, given, note))

    def name(self, location: str) -> str:
        """A location from its source's folder on."""
        for root in self._roots:
            if location.startswith(root + "/"):
                return location[len(root) + 1 :]
        return location

    def _some(self, source: str, given: Sequence[Any], note: str) -> list[dict[str, Any]]:
        return self.rows(f"select n, location, error, ({note})::varchar as note {source}", given)

    def _shown(self, rows: Sequence[dict[str, Any]]) -> tuple[Example, ...]:
        found = tuple(Example(r["n"], self.name(r["location"]), r["note"] or "", r["error"] is None) for r in rows)
        self.wanted |= {example.n: example for example in found}
        return found
