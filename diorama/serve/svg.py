"""Small drawings written as SVG by hand: they take their colours from the classes of the page, cost no time to make,
and what they show can be a link.

Lengths are pixels of a drawing at its own size; the page scales it.
"""

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

LETTER = 0.56  # of a letter's height: its width, on average


def drawing(width: float, height: float, name: str, parts: Iterable[Markup]) -> Markup:
    """The drawing as an element; `name` says to a reader who cannot see it what it shows."""
    head = Markup('<svg class="plot" role="img" aria-label="{}" viewBox="0 0 {:g} {:g}">')
    return head.format(name, width, height) + Markup("").join(parts) + Markup("</svg>")


def bar(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    """A rectangle of the class `kind`; nothing where it would have no area."""
    if width <= 0 or height <= 0:
        return Markup("")
    return Markup(f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"/>')


def path(points: Sequence[tuple[float, float]], kind: str, closed: bool = False) -> Markup:
    """A line through points, or the area that they enclose."""
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup(f'<path class="{kind}" d="M{steps}{"Z" if closed else ""}"/>')


def text(x: float, y: float, words: str, size: float, anchor: str = "start", turned: bool = False) -> Markup:
    """Words on the line y, from, around or up to x (anchor `start`, `middle` or `end`); `turned` reads upwards."""
    way = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size:g}"' + (f' text-anchor="{anchor}"' if anchor != "start" else "")
    return Markup("<text {}{}>{}</text>").format(Markup(place), Markup(way), words)


def wide(words: str, size: float) -> float:
    """About how wide words are at a letter height: no drawing knows the page's letters, so it is rather too much."""
    return LETTER * size * len(words) + 2


def link(address: str, title: str, parts: Iterable[Markup]) -> Markup:
    """What is drawn as a link, with words for who points at it."""
    opened = Markup('<a href="{}"><title>{}</title>').format(escape(address), title)
    return opened + Markup("").join(parts) + Markup("</a>")


def ticks(low: float, high: float, most: int, whole: bool = False) -> list[float]:
    """At most `most` round numbers, 1, 2 or 5 times a power of ten apart, within [low, high].

    >>> ticks(0, 37, 4), ticks(0.1, 0.52, 5)
    ([0.0, 10.0, 20.0, 30.0], [0.1, 0.2, 0.3, 0.4, 0.5])
    """
    step = 10.0 ** math.floor(math.log10((high - low) / most)) if high > low else 1.0
    for factor in (1, 2, 5, 10, 20, 50):
        first, last = math.ceil(low / (factor * step) - 1e-9), math.floor(high / (factor * step) + 1e-9)
        if last - first < most and not (whole and factor * step < 1):
            return [float(f"{k * factor * step:.12g}") for k in range(first, last + 1)]
    return []


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers for a logarithmic axis over [low, high], low > 0: powers of ten where it is long,
    and 2 and 5 times those where it is short.

    >>> log_ticks(0.5, 60, 7), log_ticks(3, 2e6, 4)
    ([0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0], [100.0, 10000.0, 1000000.0])
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{f}e{k}") for k in decades for f in factors if low <= f * 10.0**k <= high]
        if len(found) <= most:
            return found
    return [tick for tick in found if round(math.log10(tick)) % math.ceil(len(decades) / most) == 0]


def apart(labels: Sequence[tuple[float, str]], size: float, width: float) -> list[tuple[float, str]]:
    """Centres of labels (centre, words) moved so far that none leaves [0, width]; those that would touch are left out.

    Labels are given from left to right.
    """
    placed, end = list[tuple[float, str]](), -math.inf
    for centre, words in labels:
        half = wide(words, size) / 2
        centre = min(max(centre, half), width - half)
        if centre - half > end:
            placed.append((centre, words))
            end = centre + half
    return placed


def rows(labels: Sequence[tuple[float, str]], size: float, width: float) -> list[tuple[int, str]]:
    """Where labels (x, words), from left to right, stand above the lines that rise to them at x: the row of each, from
    0, and its anchor. No two overlap; a line runs through other words only where there is no other way.

    >>> rows([(20, "dark"), (100, "grey")], 10, 300), rows([(4, "dark"), (12, "grey")], 10, 300)
    ([(0, 'start'), (0, 'start')], [(1, 'start'), (0, 'start')])
    """
    placed = list[_Label]()
    for x, words in reversed(labels):
        length = wide(words, size)
        sides = {"start": (x, x + length), "end": (x - length, x)}
        ways = [(row, anchor, x, *ends) for row in range(len(labels)) for anchor, ends in sides.items()
                if ends[0] >= 0 and ends[1] <= width]  # fmt: skip
        ways += [(len(labels) + len(placed), "start" if x < width / 2 else "end", x, x, x)]  # too wide for either side
        free = [way for way in ways if all(_apart(way, other) for other in placed)]
        beside = [way for way in free if not any(_crosses(way, other) for other in placed)]
        placed.append((beside or free)[0])
    return [(row, anchor) for row, anchor, *_ in reversed(placed)]


_Label = tuple[int, str, float, float, float]  # row, anchor, x of its line, and the ends of its words


def _apart(one: _Label, other: _Label) -> bool:
    return one[0] != other[0] or one[4] <= other[3] or other[4] <= one[3]


def _crosses(one: _Label, other: _Label) -> bool:
    """Whether the line of the higher one runs through the words of the lower one."""
    (_, _, _, low, high), (_, _, x, *_) = sorted([one, other])
    return one[0] != other[0] and low < x < high
