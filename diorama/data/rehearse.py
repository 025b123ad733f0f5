"""A curation tried without deciding: what each rule would leave out, and how the clips at its edge look."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb
import numpy as np

from diorama.core.files import sole_writer
from diorama.data.curation import Examination
from diorama.data.ledger import quote
from diorama.data.rules import Curation
from diorama.data.runners import named
from diorama.data.sources import fetch
from diorama.media import BadMedia, Part, Reader, contact_sheet, scale

SHOWN = 12  # clips on each side of a threshold
CELL = 128  # pixels a side


def rehearse(
    sources: Sequence[Path | str], out: Path | str, policy: Curation, *, runner: str = "local"
) -> Iterator[str]:
    """A line for every rule; `OUT/dry-run/<rule>.png` shows, above, the clips it would just leave out and, below, those
    it would just keep, with the rule's measure.

    Items that are new are looked at and what was seen is kept, so the curation that follows has that work done; no
    verdict is recorded.
    """
    out = Path(os.path.abspath(out))
    with sole_writer(out, "curating"):
        decision = Examination(sources, out, policy, runner=named(runner)).decide()
    con = decision.con
    [(sound, left)] = con.sql("select (select count(*) from sound), (select count(*) from left_over)").fetchall()
    yield f"{sound:,} sound clips, of which {left:,} would be kept"
    for rule, clips in decision.cuts().items():
        yield f"  {rule}: {clips:,} clips ({clips / max(sound, 1):.1%})"
        if clips:
            yield f"    {_draw(con, rule, decision.out / 'dry-run' / f'{rule}.png')}"


def _draw(con: duckdb.DuckDBPyConnection, rule: str, path: Path) -> str:
    """Draw the edge of a rule; returns what the picture shows."""
    [(metric, threshold)] = con.sql(
        f"select metric, threshold from cut where reason = {quote(rule)} and actor = 'rule' limit 1"
    ).fetchall()
    near = f"order by abs(value - '{threshold!r}'::double), location limit {SHOWN}"
    out = con.sql(
        "select location, value, partner from cut join sound using (id) "
        f"where reason = {quote(rule)} and actor = 'rule' {near}"
    ).fetchall()
    partners = [(location, value) for _, value, location in out if location]
    kept = (
        partners
        or con.sql(
            f"select location, {metric} as value from left_over join {metric.split('.')[0]} using (id) "
            f"where value is not null {near}"
        ).fetchall()
    )
    rows = [[(location, value) for location, value, _ in out], kept]
    locations = [location for row in rows for location, _ in row]
    starts = con.execute("select location, start from sound where location in (select unnest(?))", [locations])
    frames = _frames(locations, dict(starts.fetchall()))
    blank = np.full((1, CELL, CELL, 3), 255, np.uint8)
    cells, captions = [], []
    columns = max(map(len, rows))
    for row in rows:
        cells += [next(frames) for _ in row] + [blank] * (columns - len(row))
        captions += [f"{value:.4g}" for _, value in row] + [""] * (columns - len(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(cells, path, columns=columns, captions=captions)
    other = "the clips kept instead" if partners else "just kept"
    return f"{metric}, threshold {threshold:.4g}; {path}: above just left out, below {other}"


def _frames(locations: Sequence[str], starts: Mapping[str, float | None]) -> Iterator[np.ndarray]:
    """The first frame of each (1, CELL, CELL, 3), whole, in the middle of grey; grey alone where it cannot be read."""
    with Reader(1) as reader:
        for location in locations:
            cell = np.full((1, CELL, CELL, 3), 128, np.uint8)
            try:
                first = Part(fetch(location), starts.get(location) or 0.0, 1)
                frame = reader.read(first, short_side=CELL).frames[:1]
                height, width = frame.shape[1:3]
                h, w = (max(round(side * CELL / max(height, width)), 1) for side in (height, width))
                y, x = (CELL - h) // 2, (CELL - w) // 2
                cell[:, y : y + h, x : x + w] = scale(frame, h, w)
            except BadMedia:
                pass
            yield cell
