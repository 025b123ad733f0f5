"""The rule that keeps so many clips as stand for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import duckdb
import numpy as np
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.data.balance.column import unit_vectors
from diorama.data.balance.coverage import NEIGHBOURS, facility_location, farthest_first, nearest, similarities
from diorama.data.rules import VERDICT


class Choice(Protocol):
    """Chooses vectors that stand for all; a frozen dataclass."""

    def __call__(self, vectors: np.ndarray, count: int, chosen: Sequence[int]) -> np.ndarray:
        """`count` rows of unit vectors (n, d) float32, the rows `chosen` among them."""


@dataclass(frozen=True)
class KCentre:
    """No clip is far from one that is kept: `coverage.farthest_first`. Keeps what is rare, and outliers."""

    def __call__(self, vectors: np.ndarray, count: int, chosen: Sequence[int]) -> np.ndarray:
        """As `Choice`."""
        return farthest_first(vectors, count, chosen)


@dataclass(frozen=True)
class FacilityLocation:
    """Clips are like one that is kept, taken together: `coverage.facility_location`, on cosines, those below 0 as 0.

    Above `coverage.ALL_PAIRS` clips, a clip counts as covered by its nearest `neighbours` only. What is bounded is then
    the sum over that graph, which is never above the true one; below count = n / neighbours it says little, as most
    clips have no neighbour that is kept.
    """

    neighbours: int = NEIGHBOURS

    def __post_init__(self) -> None:
        if self.neighbours < 2:
            raise UserError(f"facility location needs 2 neighbours or more, not {self.neighbours}")

    def __call__(self, vectors: np.ndarray, count: int, chosen: Sequence[int]) -> np.ndarray:
        """As `Choice`."""
        return facility_location(similarities(vectors, self.neighbours), count, chosen)


@dataclass(frozen=True)
class Diverse:
    """Keeps `count` clips that stand for all, by the vectors in `column`, scaled to length 1.

    What a person chose is among them. A clip without a vector is kept besides. The ledger names the nearest clip kept
    as partner, how far it is, and as threshold how far the farthest of all is: two vectors with cosine c are
    sqrt(2 - 2 c) apart, so between 0 and 2. Raises `UserError` for a count below 1.
    """

    count: int
    column: str = "embedding.vector"
    choice: Choice = KCentre()
    name: str = "like another clip"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"'{self.name}' keeps one clip or more, not {self.count}")

    @property
    def measures(self) -> tuple[str, ...]:
        """The vectors."""
        return (self.column,)

    def verdicts(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        """As `Rule.verdicts`."""
        told = con.sql("select id, location, chosen from left_over order by id").fetchall()
        vectors = unit_vectors(con, self.column, [row[0] for row in told])
        rows = np.flatnonzero(vectors.any(1))
        if len(rows) <= self.count:
            return VERDICT.empty_table()
        vectors = vectors[rows] if len(rows) < len(vectors) else vectors
        chosen = np.flatnonzero([told[k][2] for k in rows])
        kept = np.union1d(chosen, self.choice(vectors, max(self.count, len(chosen)), chosen.tolist()))
        partner, distance = nearest(vectors, kept)
        out = np.setdiff1d(np.arange(len(rows)), kept)
        return pa.Table.from_pylist(
            [{"id": told[rows[k]][0], "partner": told[rows[partner[k]]][1], "metric": self.column,
              "value": float(distance[k]), "threshold": float(distance[out].max())} for k in out], VERDICT)  # fmt: skip
