"""`Score`: one measured figure together with everything needed to believe it."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Score:
    """A figure, how many examples it rests on, what saw them, and what real data get under the same measurement.

    A score without `n`, `seed` and `features` cannot be compared with any other, so none can be made without them.
    """

    name: str
    value: float
    n: int  # examples on the judged side
    seed: int  # of the subset taken and of the judge's training
    features: str  # what looked at the media: "pixels", a network by name, a tracker
    better: Better
    floor: float | None = None  # held-back real data, same measurement: the best to expect
    shuffled: float | None = None  # the same samples against prompts of other samples: what chance gets
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """`value / floor`, for distances whose floor is above zero; else None."""
        return self.value / self.floor if self.better == "lower" and self.floor and self.floor > 0 else None


def to_json(scores: Sequence[Score]) -> str:
    """The scores as a JSON list; figures that are not finite become null."""
    rows = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(s).items()} for s in scores
    ]
    return json.dumps(rows, indent=1) + "\n"


def from_json(text: str) -> list[Score]:
    """The scores that `to_json` wrote; a null value comes back as nan."""
    return [Score(**{**row, "value": math.nan if row["value"] is None else row["value"]}) for row in json.loads(text)]


def read_scores(path: Path) -> list[Score]:
    """The scores kept in the file `path`."""
    return from_json(path.read_text())


def figure(x: float | None) -> str:
    """A number with four significant digits, or an empty cell."""
    return "" if x is None else f"{x:.4g}"


def table(scores: Sequence[Score]) -> str:
    """Plain text, one line a score: name, value, real data's floor, value/floor, shuffled prompts', n, judge, note."""
    head = ("score", "value", "real", "x real", "shuffled", "n", "seen by", "note")
    rows = [
        (
            f"{s.name} {'↑' if s.better == 'higher' else '↓'}",
            *map(figure, (s.value, s.floor, s.ratio, s.shuffled)),
            str(s.n),
            s.features,
            s.note,
        )
        for s in scores
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    numeric = range(1, 6)
    lines = [
        "  ".join(c.rjust(w) if i in numeric else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in [head, *rows]
    ]
    return "\n".join(line.rstrip() for line in lines)
