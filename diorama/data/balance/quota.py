"""The rule that keeps at most so many clips of a value, and the orders in which it takes them."""

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import duckdb
import numpy as np
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes
from diorama.data.balance.column import groups, measures, unit_vectors
from diorama.data.balance.coverage import farthest_first
from diorama.data.rules import VERDICT


@dataclass(frozen=True)
class Clips:
    """The clips that a quota is applied to, sorted by id.

    ids: n of them. group (n,): the number of each one's value. quota (groups,): how many are kept of each. chosen
    (n,) bool: a person said keep.
    """

    ids: list[str]
    group: np.ndarray
    quota: np.ndarray
    chosen: np.ndarray


class Order(Protocol):
    """Which clips of a value come first; a frozen dataclass. measures: what it asks for, as `stage.measure`."""

    @property
    def measures(self) -> tuple[str, ...]: ...

    def places(self, con: duckdb.DuckDBPyConnection, clips: Clips) -> np.ndarray:
        """A place for each clip, (n,) float64; in a group, the lower come first, then the lower id."""


@dataclass(frozen=True)
class ByHash:
    """By a hash of the id: as good as at random, and a new clip takes the place of one other at most."""

    @property
    def measures(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def places(self, con: duckdb.DuckDBPyConnection, clips: Clips) -> np.ndarray:
        """As `Order.places`."""
        # with a word of its own: splits go by a hash of the id too, and the first clips here must not all be test clips
        return np.array([int(hash_bytes(f"quota {i}".encode(), 6), 16) for i in clips.ids], np.float64)


@dataclass(frozen=True)
class Highest:
    """By a number, as `stage.measure`, the highest first; clips without one come last."""

    measure: str
    sign: ClassVar[float] = -1.0

    @property
    def measures(self) -> tuple[str, ...]:
        """The number."""
        return measures(self.measure)

    def places(self, con: duckdb.DuckDBPyConnection, clips: Clips) -> np.ndarray:
        """As `Order.places`."""
        stage = self.measure.split(".")[0]
        rows = con.sql(f"select id, {self.measure}::double from {stage} where {self.measure} is not null").fetchall()
        known = dict(rows)
        place = self.sign * np.array([known.get(identifier, np.nan) for identifier in clips.ids])
        return np.where(np.isnan(place), np.inf, place)


@dataclass(frozen=True)
class Lowest(Highest):
    """By a number, as `stage.measure`, the lowest first; clips without one come last."""

    sign: ClassVar[float] = 1.0


@dataclass(frozen=True)
class Spread:
    """As unlike one another as can be: farthest first in each group (`coverage.farthest_first`), by unit vectors.

    Clips without a vector come last.
    """

    column: str = "embedding.vector"

    @property
    def measures(self) -> tuple[str, ...]:
        """The vectors."""
        return measures(self.column)

    def places(self, con: duckdb.DuckDBPyConnection, clips: Clips) -> np.ndarray:
        """As `Order.places`."""
        vectors = unit_vectors(con, self.column, clips.ids)
        placed = vectors.any(1)
        out = np.where(placed, len(clips.ids), np.inf)
        by_group = np.argsort(np.where(placed, clips.group, -1), kind="stable")[np.count_nonzero(~placed) :]
        for rows in np.split(by_group, np.flatnonzero(np.diff(clips.group[by_group])) + 1):
            if len(rows):
                first = np.flatnonzero(clips.chosen[rows])
                order = farthest_first(vectors[rows], int(clips.quota[clips.group[rows[0]]]), first.tolist())
                out[rows[order]] = np.arange(len(order))
        return out


@dataclass(frozen=True)
class Quota:
    """Keeps at most `most` clips of each value of `column`, or as many as give its values these `shares`.

    column: a word of the clip, or "stage.column"; null is a value of its own. shares: by value, as text; all other
    values together have what is left of 1, and are left out where that is nothing. As many clips are kept as the value
    that is rarest beside its share allows. order: which clips of a value are kept: `ByHash`, `Highest`, `Lowest`,
    `Spread`. What a person chose comes first, counts, and is never left out.

    The ledger has a clip's rank in its value, the quota, and as partner the last clip of that value which is kept.
    Raises `UserError` unless one of both is given, and for a column of lists.
    """

    column: str
    most: int | None = None
    shares: dict[str, float] = field(default_factory=dict)
    order: Order = ByHash()
    name: str = "over quota"

    def __post_init__(self) -> None:
        if (self.most is None) == (not self.shares):
            raise UserError(f"a quota of {self.column}: give either most= or shares=")
        if self.most is not None and self.most < 1:
            raise UserError(f"a quota of {self.column} keeps one clip or more of each value, not {self.most}")
        if self.shares and (min(self.shares.values()) <= 0 or sum(self.shares.values()) > 1 + 1e-9):
            raise UserError(f"shares of {self.column} are above 0 and sum to 1 at most, not {self.shares}")

    @property
    def measures(self) -> tuple[str, ...]:
        """What it and its order ask for."""
        return (*measures(self.column), *self.order.measures)

    def verdicts(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        """As `Rule.verdicts`."""
        ids, group, values = groups(con, self.column)
        if not ids:
            return VERDICT.empty_table()
        if self.shares:
            named: dict[str | None, int] = {value: k for k, value in enumerate(self.shares)}
            group = np.array([named.get(value, len(named)) for value in values])[group]
        told = con.sql("select location, chosen from left_over order by id").fetchall()
        chosen = np.array([row[1] for row in told])
        clips = Clips(ids, group, self._quotas(group, values), chosen)
        order = np.lexsort((np.arange(len(ids)), self.order.places(con, clips), ~chosen, group))
        counts = np.bincount(group, minlength=len(clips.quota))
        begins = np.cumsum(counts) - counts
        rank = np.empty(len(ids), np.int64)
        rank[order] = np.arange(len(ids)) - begins[group[order]] + 1
        kept = np.minimum(np.maximum(clips.quota, np.bincount(group[chosen], minlength=len(counts))), counts)
        last = [told[order[begin + count - 1]][0] if count else None for begin, count in zip(begins, kept, strict=True)]
        metric = f"rank by {self.column}"
        return pa.Table.from_pylist(
            [{"id": ids[k], "partner": last[group[k]], "metric": metric, "value": float(rank[k]),
              "threshold": float(clips.quota[group[k]])} for k in np.flatnonzero(rank > kept[group])],
            VERDICT,
        )  # fmt: skip

    def _quotas(self, group: np.ndarray, values: list[str | None]) -> np.ndarray:
        """How many clips of each group are kept."""
        if self.most is not None:
            return np.full(len(values), self.most)
        counts = np.bincount(group, minlength=len(self.shares) + 1)
        shares = np.array([*self.shares.values(), max(1 - sum(self.shares.values()), 0.0)])
        shares[shares < 1e-9] = 0  # what summing leaves of a whole
        missing = [value for value, count in zip(self.shares, counts, strict=False) if not count]
        if missing:
            there = ", ".join(str(value) for value in values[:12])
            raise UserError(f"no clip has {self.column} {missing[0]}, so it can have no share; there are {there}")
        wanted = (shares > 0) & (counts > 0)
        whole = (counts[wanted] / shares[wanted]).min()
        return np.where(counts > 0, np.floor(whole * shares + 1e-9), 0).astype(np.int64)
