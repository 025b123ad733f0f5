"""Weights: how often a clip is drawn in training, by how common what it shows is. None leaves a clip out.

A weight of 2 is drawn twice as often as the average clip of its catalogue, whose weight is 1. Weights are counted over
all clips that rules left over, whatever their split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import duckdb
import numpy as np
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.data.balance.column import reads, values

WEIGHT = pa.schema([("id", pa.string()), ("weight", pa.float64())])
MOST = 10.0  # times the average clip, unless told otherwise
DIGITS = 9  # after the point


class Balance(Protocol):
    """What weighs clips; a frozen dataclass.

    reads: what it asks for, each a word of the clip or "stage.column".
    """

    @property
    def reads(self) -> tuple[str, ...]: ...

    def weights(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        """A weight for every clip left over, as `WEIGHT`, sorted by id; their mean is 1.

        `con` has the view `left_over`, and one a stage, by id. Raises `UserError` for a column that is not there.
        """


@dataclass(frozen=True)
class InverseFrequency:
    """The rarer its value of `column` is among all clips, the more a clip weighs: count ** -power, at most `most`.

    power 0 changes nothing, 1 makes all values equally common, and 0.5 lies between; Mikolov et al. 2013 ("Distributed
    representations of words and phrases and their compositionality", section 2.3) thin out common words by that power.
    Null is a value like any other. A clip with several values (a column of lists) gets the mean of theirs. Raises
    `UserError` for a power outside [0, 1], or for `most` below 1.
    """

    column: str
    power: float = 0.5
    most: float = MOST

    def __post_init__(self) -> None:
        if not 0 <= self.power <= 1:
            raise UserError(f"a power of inverse frequency lies between 0 and 1, not at {self.power:g}")
        _cap(self.most)

    @property
    def reads(self) -> tuple[str, ...]:
        """As `Balance`."""
        return reads(self.column)

    def weights(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        """As `Balance.weights`."""
        return _by_count(values(con, self.column), self.power, self.most)


@dataclass(frozen=True)
class Temperature:
    """Values of `column` become as common as their share ** (1 / temperature), scaled to sum to 1.

    Temperature 1 changes nothing; the higher, the more alike are the shares. So languages are drawn in Arivazhagan et
    al. 2019 ("Massively multilingual neural machine translation in the wild"), with 5. It is `InverseFrequency` of
    power 1 - 1 / temperature, in other words. Raises `UserError` for a temperature, or `most`, below 1.
    """

    column: str
    temperature: float = 5.0
    most: float = MOST

    def __post_init__(self) -> None:
        if not self.temperature >= 1:
            raise UserError(f"a temperature is at least 1, not {self.temperature:g}: below, common becomes commoner")
        _cap(self.most)

    @property
    def reads(self) -> tuple[str, ...]:
        """As `Balance`."""
        return reads(self.column)

    def weights(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        """As `Balance.weights`."""
        return _by_count(values(con, self.column), 1 - 1 / self.temperature, self.most)


def combined(con: duckdb.DuckDBPyConnection, balances: Sequence[Balance]) -> pa.Table:
    """The product of several balances' weights, scaled to mean 1, as `WEIGHT`; 1 for every clip where there are none.

    Each balance keeps its own `most`; their product may be higher. Rounded to DIGITS, so that the same counts give the
    same weights, and a catalogue the same hash, on machines whose powers differ in the last bit.
    """
    ids = con.sql("select id from left_over order by id").to_arrow_table()["id"]
    product = np.ones(len(ids))
    for balance in balances:
        table = balance.weights(con)
        if not table["id"].equals(ids):
            raise ValueError(f"{balance} does not weigh every clip once, sorted by id")
        product *= table["weight"].to_numpy()
    if balances and len(product):
        product /= product.mean()
    return pa.table([ids, pa.array(np.round(product, DIGITS))], WEIGHT)


def capped(raw: np.ndarray, most: float) -> np.ndarray:
    """min(scale * raw, most), with the one scale for which the mean is 1: (n,) positive to (n,), none above `most`.

    What is cut off the rarest is given back to all others in proportion, so order and cap both hold exactly.
    """
    ascending = np.sort(raw)
    n = len(raw)
    # With the k highest at the cap, the others sum to n - k * most. k is the first that leaves no other above it.
    below = np.concatenate([[0.0], np.cumsum(ascending)])[::-1]  # sum of the n - k lowest, for k = 0 ... n
    scales = (n - most * np.arange(n)) / below[:-1]
    k = int(np.argmax(scales * ascending[::-1] <= most * (1 + 1e-12)))
    return np.minimum(raw * scales[k], most)


def _by_count(table: pa.Table, power: float, most: float) -> pa.Table:
    """Weights (`WEIGHT`) of rows of id and value, by the counts of values."""
    if not len(table):
        return WEIGHT.empty_table()
    _, value, count = np.unique(_numbers(table["value"]), return_inverse=True, return_counts=True)
    ids, clip, held = np.unique(_numbers(table["id"]), return_inverse=True, return_counts=True)
    raw = np.bincount(clip, count[value] ** -float(power), len(ids)) / held
    distinct = table["id"].combine_chunks().unique()  # rows are sorted by id, so these are in the order of `ids`
    return pa.table([distinct, pa.array(capped(raw, most))], WEIGHT)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A number for each distinct value, in order of first appearance, null's among them."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy()


def _cap(most: float) -> None:
    if not most >= 1:
        raise UserError(f"no clip can weigh at most {most:g}: the average weight is 1")
