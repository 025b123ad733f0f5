"""What a curation's report draws of measured columns: histograms, balance before and after the cut, and spectra."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import jax.numpy as jnp
import numpy as np
from markupsafe import Markup

from diorama.process.spectrum import rapsd
from diorama.serve import curation_plots as plots
from diorama.serve.funnel import Applied
from diorama.serve.items import Filter
from diorama.serve.opened import LOOK, Example, Items, Number, fragment
from diorama.serve.pictures import decoded, originals

BINS = 40
ENDS = 5  # pictures at either end of a measure
WIDE = 50.0  # times: a measure whose middle 98 % span more has a logarithmic axis
VALUES = 15  # of a column of words, the commonest
SAMPLE, CURVES = 16, 5  # pictures of a spectrum, and spectra, at most: each picture is decoded in full
SHORT_SIDE, WINDOW = 512, 256  # pixels, to which they are shrunk, and that are looked at in the middle

# Names for the bounds of ordered columns: from each bound (its own included) to the next.
_BANDS: dict[str, tuple[str, list[tuple[float, str]]]] = {
    "resolution": ("clip.side", [
        (0, "under 256 pixels along the shorter side"), (256, "256 to 511"), (512, "512 to 719"), (720, "720 to 1079"),
        (1080, "1080 to 2159"), (2160, "2160 and more")]),
    "aspect ratio": ("clip.aspect", [
        (0, "narrower than 1:2"), (0.5, "portrait, 1:2 to 4:5"), (0.8, "nearly square, 4:5 to 5:4"),
        (1.25, "landscape, 5:4 to 16:10"), (1.6, "wide, 16:10 to 2:1"), (2, "2:1 and wider")]),
    "duration": ("clip.seconds", [
        (0, "under 1 s"), (1, "1 to 2 s"), (2, "2 to 5 s"), (5, "5 to 10 s"), (10, "10 to 30 s"),
        (30, "30 s and more")]),
    "frame rate": ("clip.rate", [
        (0, "under 12 frames a second"), (12, "12 to 23"), (23, "23 to 26, film and PAL"), (26, "26 to 45"),
        (45, "45 to 75"), (75, "75 and more")]),
}  # fmt: skip


@dataclass(frozen=True)
class Histogram:
    """One measure: its figure, how many clips that are kept and left out have it, and its extremes to look at."""

    measure: str
    figure: Markup
    kept: Number
    out: Number
    ends: Number
    beyond: int  # clips past the ends of the axis


def histograms(items: Items, thresholds: Mapping[str, Sequence[tuple[float, str]]]) -> list[Histogram]:
    """Of every number that is known of the distinct clips; constant ones are left out."""
    found = [_histogram(items, measure, thresholds.get(measure, ())) for measure in items.measures]
    return [one for one in found if one]


def _histogram(items: Items, measure: str, thresholds: Sequence[tuple[float, str]]) -> Histogram | None:
    value = f'"{measure}"::double'
    [seen] = items.rows("select min(v) as low, max(v) as high, min(v) filter (kept) as low_kept, "
                        "max(v) filter (kept) as high_kept, quantile_cont(v, [0.01, 0.05, 0.95, 0.99]) as inner "
                        f"from (select {value} as v, verdict = 'keep' as kept from sound) "
                        "where isfinite(v)")  # fmt: skip
    if seen["low"] is None or seen["low"] == seen["high"]:
        return None
    low, high, (first, early, late, last) = seen["low"], seen["high"], seen["inner"]
    log = first > 0 and late / early > WIDE
    start, end = _axis(low, high, first, last, log, [limit for limit, _ in thresholds])
    position = f"({value} - {start!r}) / {end - start!r}"
    if log:  # what is not positive lies left of the axis
        position = f"case when {value} > 0 then ln({value} / {start!r}) / {math.log(end / start)!r} else 0 end"
    rows = items.con.execute(
        f"select verdict = 'keep' as kept, greatest(least(floor({BINS} * ({position})), {BINS - 1}), 0)::int as bin, "
        f"count(*), count(*) filter ({value} < ? or {value} > ?) from sound where isfinite({value}) group by all",
        [start, end]).fetchall()  # fmt: skip
    counts = np.zeros((2, BINS), np.int64)
    for kept, bin_, n, _ in rows:
        counts[int(kept), bin_] = n
    edges = np.geomspace(start, end, BINS + 1) if log else np.linspace(start, end, BINS + 1)
    finite = f"isfinite({value})"
    beyond = sum(row[-1] for row in rows)
    note = f"'{measure} ' || round({value}, 4)"
    kept = Number(0) if seen["low_kept"] is None else items.asked(
        Filter("keep", measure=measure, low=seen["low_kept"], high=seen["high_kept"]), note=note)  # fmt: skip
    sheets = [(title, items.sheet(f"from sound where {finite} order by {value} {way}, n limit {ENDS}", note=note))
              for title, way in (("lowest", ""), ("highest", "desc"))]  # fmt: skip
    out = items.where(f"verdict = 'drop' and {finite}", table="sound", note=f"reason || ', ' || {note}")

    def opened(low: float | None, high: float | None) -> str:
        return LOOK + "#" + fragment(Filter(measure=measure, low=low, high=high))

    figure = plots.histogram(edges, counts[1], counts[0], thresholds, log, measure, opened)
    ends = Number(sum(len(sheet) for _, sheet in sheets), tuple(sheets))
    return Histogram(measure, figure, kept, out, ends, beyond)


def _axis(
    low: float, high: float, first: float, last: float, log: bool, thresholds: Sequence[float]
) -> tuple[float, float]:
    """Ends of an axis: the extremes, or nearer where a few values lie far out; thresholds are always in sight."""
    if log:
        start, end = max(low, first / 4) if low > 0 else first / 4, min(high, last * 4)
        inside = [t for t in thresholds if t > 0]
    else:
        inner = (last - first) or (high - low)
        start, end, inside = max(low, first - inner / 2), min(high, last + inner / 2), list(thresholds)
    return min([start, *inside]), max([end, *inside])


@dataclass(frozen=True)
class Share:
    """A value of a column: clips before the rules and after them; null before for what only kept clips have.

    weighed: its share of what training draws, where clips have weights that differ.
    """

    value: str
    before: Number | None
    after: Number
    weighed: float | None


@dataclass(frozen=True)
class Balance:
    """A column's values, the commonest first or in their order, among `before` and `after` clips in all."""

    name: str
    values: list[Share]
    others: int  # values that are not listed
    before: int
    after: int

    @property
    def most(self) -> float:
        """The largest share of the table, to which its bars are drawn."""
        before = [v.before.count / max(self.before, 1) for v in self.values if v.before]
        return max([*before, *(v.after.count / max(self.after, 1) for v in self.values)]) or 1.0


def balances(items: Items) -> list[Balance]:
    """Of what is said of clips and what they are: all distinct readable clips, and those that are kept."""
    items.con.register("given", items.catalogue.ask("select id, split, weight from clips"))
    items.con.execute("create or replace temp table trains as select * from given")
    items.con.unregister("given")
    columns = [("kind", "kind"), ("class", "class_name"), ("label", "label"), ("format", "format")]
    clusters = [(name, name) for name in (*items.measures, *items.words) if name.endswith(".cluster")]
    found = [_splits(items), *(_valued(items, title, name) for title, name in (*columns, *clusters))]
    found += [_banded(items, name, measure, bands) for name, (measure, bands) in _BANDS.items()]
    return [one for one in found if one]


def _splits(items: Items) -> Balance:
    shares = []
    for (split,) in items.con.execute("select split from trains group by split order by count(*) desc, 1").fetchall():
        holds = "verdict = 'keep' and id in (select id from trains where split = ?)"
        shares.append(Share(split, None, items.where(holds, [split]), None))
    return Balance("split", shares, 0, 0, sum(share.after.count for share in shares))


def _valued(items: Items, title: str, column: str) -> Balance | None:
    values = items.con.execute(
        f'select "{column}"::varchar as v, count(*) as n from sound group by v order by n desc, v limit {VALUES}'
    ).fetchall()
    different = items.one(f'select count(distinct "{column}") + max(("{column}" is null)::int) from sound')
    if not any(v is not None for v, _ in values):
        return None
    shares = []
    for v, _ in values:
        holds, given = (f'"{column}"::varchar = ?', [v]) if v is not None else (f'"{column}" is null', [])
        asked = Filter("keep", column=column, equals=v) if column in items.words else None
        shares.append(_share(items, v if v is not None else "unknown", holds, given, asked))
    [whole] = items.rows("select count(*) as before, count(*) filter (verdict = 'keep') as after from sound")
    return Balance(title, shares, different - len(values), whole["before"], whole["after"])


def _banded(items: Items, title: str, measure: str, bands: Sequence[tuple[float, str]]) -> Balance | None:
    shares = []
    for k, (start, name) in enumerate(bands):
        # the next band's start is not in this one; `diorama look` takes ends that are
        end = math.nextafter(bands[k + 1][0], -math.inf) if k + 1 < len(bands) else None
        holds, given = f'"{measure}"::double >= ?', [start]
        if end is not None:
            holds, given = f'{holds} and "{measure}"::double <= ?', [start, end]
        share = _share(items, name, holds, given, Filter("keep", measure=measure, low=start, high=end))
        shares += [share] if share.before and share.before.count else []
    sides = [s.before for s in shares], [s.after for s in shares]
    before, after = (sum(n.count for n in side if n) for side in sides)
    return Balance(title, shares, 0, before, after) if shares else None


def _share(items: Items, name: str, holds: str, given: Sequence[Any], asked: Filter | None) -> Share:
    before = items.where(holds, given, table="sound", note="case when verdict = 'drop' then reason end", pictures=4)
    if asked:
        after = items.asked(asked, pictures=4)
    else:
        after = items.where(f"verdict = 'keep' and {holds}", given, table="sound", pictures=4)
    total = items.one("select case when count(distinct weight) > 1 then sum(weight) end from trains")
    ids = f"select id from sound where verdict = 'keep' and {holds}"
    weight = items.one(f"select sum(weight) from trains where id in ({ids})", given) if total else None
    return Share(name, before, after, (weight or 0.0) / total if total else None)


@dataclass(frozen=True)
class Spectra:
    """Spectra of sampled pictures: the figure, the falls f^-p of each curve's median, and the pictures."""

    figure: Markup
    falls: list[tuple[str, float]]
    pictures: Number


def spectra(items: Items, rules: Sequence[Applied]) -> Spectra | None:
    """Of a sample of kept pictures and of those left out as not sharp; None where none is large enough."""
    blurred = [r.name for r in rules if r.conditions and r.conditions[0].measure.endswith(".sharpness")]
    wanted = [("kept", "verdict = 'keep'", list[str]())]
    wanted += [(name, "verdict = 'drop' and reason = ?", [name]) for name in blurred]
    rows, chosen = list[dict[str, Any]](), list[tuple[str, tuple[Example, ...]]]()
    for name, where, given in wanted[:CURVES]:
        picked = f"from sound where {where} and least(h, w) >= {WINDOW} order by hash(n) limit {SAMPLE}"
        rows += [row | {"of": name} for row in items.rows(f"select id, location, t, rate, start {picked}", given)]
        chosen.append((name, items.sheet(picked, given)))
    seen = decoded(originals(items.catalogue, rows), SHORT_SIDE, "pictures for spectra")
    curves, sheets = list[tuple[str, np.ndarray]](), list[tuple[str, tuple[Example, ...]]]()
    for name, sheet in chosen:
        frames = [frame for row, frame in zip(rows, seen, strict=True) if row["of"] == name and frame is not None]
        if frames:
            curves.append((name, _spectra(frames)))
            sheets.append((name, sheet))
    if not curves:
        return None
    falls = [(name, _fall(np.median(power, axis=0))) for name, power in curves]
    return Spectra(plots.spectra(curves), falls, Number(sum(len(s) for _, s in sheets), tuple(sheets)))


def _spectra(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Radially averaged power of the brightness (in [-1, 1]) of the middle of pictures: (pictures, WINDOW // 2).

    A Hann window keeps the step from one edge of the picture to the other, which falls as 1/f² too, out of it.
    """
    window = np.outer(np.hanning(WINDOW), np.hanning(WINDOW)).astype(np.float32)
    window /= np.sqrt((window**2).mean())
    middles = []
    for frame in frames:
        y, x = ((side - WINDOW) // 2 for side in frame.shape[:2])
        luma = cv2.cvtColor(frame[y : y + WINDOW, x : x + WINDOW], cv2.COLOR_RGB2GRAY).astype(np.float32) / 127.5 - 1
        middles.append((luma - luma.mean()) * window)
    return np.maximum(np.asarray(rapsd(jnp.asarray(np.stack(middles)[..., None])))[..., 0], 1e-9)


def _fall(power: np.ndarray) -> float:
    """The p of f^-p that a spectrum follows between coarse and fine, by least squares of logarithms."""
    k = np.arange(1, len(power) + 1)
    middle = slice(3, len(power) // 2)
    return -float(np.polyfit(np.log(k[middle]), np.log(power[middle]), 1)[0])
