"""The figures of a curation's report: funnel, histograms, lengths and spectra, in the colours of the page."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup

from diorama.serve import svg

CROWDED = 5  # times the second bar: a taller one is cut off, so that the others can be seen
SMALL, TEXT = 10.0, 12.0  # letter heights in a panel, and in a figure as wide as the page
PAGE = 1032.0  # pixels, the width of the page's text

Link = Callable[[float | None, float | None], str]


def funnel(steps: Sequence[tuple[str, int, int]]) -> Markup:
    """Bars of (name, left after the step, taken out by it), the first at the top."""
    pitch, thick, top = 29.0, 17.0, 30.0
    most = max(1, *(left + out for _, left, out in steps))
    said = [f"{left:,}" + (f"   −{out:,}" if out else "") for _, left, out in steps]
    start = max(svg.wide(name, TEXT) for name, _, _ in steps) + 6
    scale = (PAGE - start - max(svg.wide(words, TEXT) for words in said) - 8) / most
    bottom = top + pitch * len(steps)
    parts = _legend(["left after this step", "taken out here"], 12.0)
    for tick in svg.ticks(0, most, 9, whole=True):
        x = start + scale * tick
        parts += [
            svg.path([(x, top - 4), (x, bottom)], "grid"),
            svg.text(x, bottom + 15, f"{tick:,.0f}", TEXT, "middle"),
        ]
    for i, ((name, left, out), words) in enumerate(zip(steps, said, strict=True)):
        y = top + pitch * i
        parts += [
            svg.text(start - 8, y + 13, name, TEXT, "end"), svg.bar(start, y, scale * left, thick, "s1"),
            svg.bar(start + scale * left, y, scale * out, thick, "s2"),
            svg.text(start + scale * (left + out) + 8, y + 13, words, TEXT),
        ]  # fmt: skip
    parts.append(svg.text(start + scale * most / 2, bottom + 32, "items", TEXT, "middle"))
    return svg.drawing(PAGE, bottom + 38, "Items left after each step of curation", parts)


def _legend(names: Sequence[str], y: float) -> list[Markup]:
    """Names with their colours, at the right of the page."""
    x, parts = PAGE, list[Markup]()
    for i, name in reversed(list(enumerate(names))):
        x -= svg.wide(name, TEXT)
        parts += [svg.text(x, y, name, TEXT), svg.bar(x - 18, y - 9, 12, 10, f"s{i + 1}")]
        x -= 36
    return parts


def histogram(
    edges: np.ndarray, kept: np.ndarray, out: np.ndarray, lines: Sequence[tuple[float, str]], log: bool, name: str,
    link: Link,
) -> Markup:  # fmt: skip
    """Counts of a measure by bins with `edges` (b + 1), of what is kept and, on top of it, of what is left out.

    lines: thresholds with their rules. link: the address of the clips from one value to another, both included; the
    outermost bars have no outer end.
    """
    width, height, right = 330.0, 108.0, 6.0
    total = kept + out
    *_, second, tallest = np.sort(total)
    cut = bool(second) and tallest > CROWDED * second
    most = 2.0 * second if cut else max(float(tallest), 1.0) * 1.06
    levels = [(level, _short(level)) for level in svg.ticks(0, most, 4, whole=True)]
    left = max(svg.wide(words, SMALL) for _, words in levels) + 4
    across, (low, high) = width - left - right, (float(edges[0]), float(edges[-1]))

    def x(value: float) -> float:
        return left + across * (math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low))

    shown = [(x(limit), rule) for limit, rule in sorted(lines) if low <= limit <= high]
    placed = svg.rows(shown, SMALL, width)
    top = 14.0 * (1 + max((row for row, _ in placed), default=0)) + 2
    bottom = top + height

    def y(count: float) -> float:
        return bottom - height * min(count / most, 1.0)

    parts = [svg.path([(left, y(level)), (width - right, y(level))], "grid") for level, _ in levels]
    parts += [svg.text(left - 5, y(level) + 3.5, words, SMALL, "end") for level, words in levels]
    for i in np.flatnonzero(total):
        a, b, stay, go = float(edges[i]), float(edges[i + 1]), int(kept[i]), int(out[i])
        between = f"{a:.4g} to {b:.4g}: {stay:,} kept, {go:,} left out"
        start, end = None if i == 0 else a, None if i == len(total) - 1 else math.nextafter(b, -math.inf)
        wide = max(x(b) - x(a), 0.5)
        parts.append(svg.link(link(start, end), between, [
            svg.bar(x(a), top, wide, height, "over"), svg.bar(x(a), y(stay), wide, bottom - y(stay), "s1"),
            svg.bar(x(a), y(stay + go), wide, y(stay) - y(stay + go), "s2")]))  # fmt: skip
    for (at, rule), (row, anchor) in zip(shown, placed, strict=True):
        line = top - 5 - 14 * row
        parts += [svg.path([(at, line + 3), (at, bottom)], "dashed"), svg.text(at, line, rule, SMALL, anchor)]
    if cut:
        at = int(np.argmax(total))
        side = -4 if at > len(total) / 2 else 4
        edge = x(float(edges[at])) if side < 0 else x(float(edges[at + 1]))
        parts.append(svg.text(edge + side, top + 10, f"↑ {tallest:,}", SMALL, "end" if side < 0 else "start"))
    parts.append(svg.path([(left, bottom), (width - right, bottom)], "axis"))
    ticks = svg.log_ticks(low, high, 7) if log else svg.ticks(low, high, 6)
    names = svg.apart([(x(tick), _short(tick)) for tick in ticks], SMALL, width)
    parts += [svg.text(centre, bottom + 14, words, SMALL, "middle") for centre, words in names]
    return svg.drawing(width, bottom + 18, f"Histogram of {name}: kept, and left out on top", parts)


def _short(x: float) -> str:
    """A number for a narrow axis.

    >>> _short(12000), _short(2.5e6), _short(0.05)
    ('12k', '2.5M', '0.05')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(x) >= size:
            return f"{x / (size if letter != 'k' else 1e3):g}{letter}"
    return f"{x:g}"


def bars(names: Sequence[str], counts: Sequence[int], label: str) -> Markup:
    """Upright bars of counts, for few ordered values."""
    width, height, top = 500.0, 130.0, 16.0
    most, bottom = max(1, *counts), top + height
    pitch = width / len(names)
    parts = list[Markup]()
    for i, (name, count) in enumerate(zip(names, counts, strict=True)):
        tall, middle = height * count / most, pitch * (i + 0.5)
        parts += [svg.bar(middle - 0.36 * pitch, bottom - tall, 0.72 * pitch, tall, "s1"),
                  svg.text(middle, bottom - tall - 4, f"{count:,}", TEXT, "middle"),
                  svg.text(middle, bottom + 16, name, SMALL, "middle")]  # fmt: skip
    parts += [svg.path([(0, bottom), (width, bottom)], "axis"), svg.text(width / 2, bottom + 34, label, TEXT, "middle")]
    return svg.drawing(width, bottom + 40, f"Clips by {label}", parts)


def spectra(curves: Sequence[tuple[str, np.ndarray]]) -> Markup:
    """Power spectra (pictures, k) by name, beside a line that falls as 1/f²: the median, and half of the pictures.

    Row i of a spectrum is i + 1 cycles over the picture.
    """
    left, right, top, height = 66.0, 6.0, 8.0, 300.0
    bottom = top + height
    bands = [(name, np.quantile(power, [0.25, 0.5, 0.75], axis=0)) for name, power in curves]
    k = np.arange(1, curves[0][1].shape[1] + 1) / curves[0][1].shape[1]
    first = bands[0][1][1]
    at = min(3, len(first) - 1)
    natural = first[at] * (k[at] / k) ** 2
    low = float(first[-1]) / 100  # what 8 bits round off is no picture
    high = 1.5 * float(max(natural[0], *(band.max() for _, band in bands)))

    def points(power: np.ndarray) -> list[tuple[float, float]]:
        x = left + (PAGE - left - right) * (1 - np.log(k) / np.log(k[0]))
        y = bottom - height * (np.log(np.maximum(power, low) / low) / np.log(high / low))
        return list(zip(x.tolist(), y.tolist(), strict=True))

    parts = list[Markup]()
    for decade in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
        y = bottom - height * math.log(10.0**decade / low) / math.log(high / low)
        power = Markup('10<tspan dy="-4" font-size="9">{}</tspan>').format(str(decade).replace("-", "−"))
        parts += [svg.path([(left, y), (PAGE - right, y)], "grid"), svg.text(left - 6, y + 4, power, TEXT, "end")]
    across = PAGE - left - right
    names = []
    for tick in svg.log_ticks(float(k[0]), 1.0, 9):
        x = left + across * (1 - math.log(tick) / math.log(k[0]))
        parts.append(svg.path([(x, top), (x, bottom)], "grid"))
        names.append((x, f"{tick:g}"))
    parts += [svg.text(x, bottom + 16, words, TEXT, "middle") for x, words in svg.apart(names, TEXT, PAGE)]
    for i, (_, (below, _, above)) in enumerate(bands):
        parts.append(svg.path([*points(below), *reversed(points(above))], f"s{i + 1} faint", closed=True))
    for i, (_, (_, middle, _)) in enumerate(bands):
        seen = [point for point, power in zip(points(middle), middle, strict=True) if power >= low]
        parts.append(svg.path(seen, f"line l{i + 1}"))
    parts.append(svg.path(points(natural), "dashed"))
    legend = [(f"line l{i + 1}", f"{name}, {len(power)} of them") for i, (name, power) in enumerate(curves)]
    for row, (kind, words) in enumerate(reversed([*legend, ("dashed", "1/f², as natural pictures have")])):
        y = bottom - 14 - 19 * row
        parts += [svg.path([(left + 12, y), (left + 40, y)], kind), svg.text(left + 48, y + 4, words, TEXT)]
    gap = 8 * "\N{NO-BREAK SPACE}"
    label = ("coarse", "←", "frequency, as a share of the finest that pixels can hold", "→", "fine")
    parts += [
        svg.path([(left, bottom), (PAGE - right, bottom)], "axis"),
        svg.text(left + across / 2, bottom + 36, gap.join(label), TEXT, "middle"),
        svg.text(14, top + height / 2, "power of brightness in [−1, 1]", TEXT, "middle", turned=True),
    ]
    return svg.drawing(PAGE, bottom + 44, "Radially averaged power spectra of sampled pictures", parts)
