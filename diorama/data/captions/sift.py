"""Captions that pass, as a column of their own: a bad caption need not cost the clip."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from diorama.core.errors import UserError
from diorama.data.captions.choice import preferred
from diorama.data.rules import Percentile, Where


@dataclass(frozen=True)
class Sift:
    """The first column of `of` that holds words, null for a clip of which any condition holds.

    With Sift(unless=(Where("wording.stock", above=0),)), the order ("sifted.caption", "vlm.caption") trains on what
    people wrote where that is sound, and on a model's words elsewhere. Thresholds are numbers: raises `UserError` for a
    `Percentile`, which other clips would move.
    """

    unless: tuple[Where, ...]
    of: tuple[str, ...] = ("caption",)
    name: str = "sifted"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"caption": str}
    weights: ClassVar[tuple[Path, ...]] = ()

    def __post_init__(self) -> None:
        for where in self.unless:
            if isinstance(where.limit, Percentile):
                raise UserError(f"the stage {self.name} takes a number as threshold of {where.measure}, no percentile")

    @property
    def reads(self) -> tuple[str, ...]:
        """As `Derived.reads`."""
        return tuple(dict.fromkeys((*self.of, *(where.measure for where in self.unless))))

    def prepare(
        self, models: Path, sample: Callable[[int], pa.Table]
    ) -> Callable[[pa.Table], Mapping[str, Sequence[Any]]]:
        """As `Derived.prepare`."""

        def batch(table: pa.Table) -> dict[str, list[Any]]:
            captions = preferred(table, self.of)
            for where in self.unless:
                for n, value in enumerate(table[where.measure].to_pylist()):
                    if value is not None and _holds(where, value):
                        captions[n] = None
            return {"caption": captions}

        return batch


def _holds(where: Where, value: float) -> bool:
    limit = where.limit
    assert not isinstance(limit, Percentile)
    return value > limit if where.below is None else value < limit
