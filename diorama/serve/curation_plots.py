"""The figures of a curation's report: funnel, histograms and spectra, in the colours of the page."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext, LogLocator, MaxNLocator, NullFormatter

from diorama.serve.plots import INK, SERIES, STYLE, svg

KEPT, OUT = SERIES[0], SERIES[1]
STYLE = STYLE | {"axes.axisbelow": True}
CROWDED = 5  # times the second bar: a taller one is cut off, so that the others can be seen


def funnel(steps: Sequence[tuple[str, int, int]]) -> Markup:
    """Bars of (name, left after the step, taken out by it), the first at the top."""
    names, left, out = zip(*steps, strict=True)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.2, 0.9 + 0.33 * len(steps)), layout="constrained")
        FigureCanvasSVG(figure)
        axis = figure.subplots()
        y = np.arange(len(steps))
        axis.barh(y, left, color=KEPT, height=0.62, label="left after this step")
        axis.barh(y, out, left=left, color=OUT, height=0.62, label="taken out here")
        axis.set_yticks(y, names)
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        most = max(1, *(a + b for a, b in zip(left, out, strict=True)))
        for i, (stay, go) in enumerate(zip(left, out, strict=True)):
            axis.text(stay + go + 0.008 * most, i, f"{stay:,}" + (f"   −{go:,}" if go else ""), va="center", fontsize=8)
        axis.set_xlim(0, 1.13 * most)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axis.set_xlabel("items")
        figure.legend(loc="outside upper right", ncols=2, fontsize=8)
        return svg(figure, "Items left after each step of curation")


def histogram(
    edges: np.ndarray, kept: np.ndarray, out: np.ndarray, lines: Sequence[tuple[float, str]], log: bool, name: str
) -> Markup:
    """Counts of a measure by bins with `edges` (b + 1), of what is kept and, on top of it, of what is left out.

    lines: thresholds with their rules.
    """
    with matplotlib.rc_context(STYLE | {"font.size": 8}):
        figure = Figure(figsize=(3.3, 1.65))
        FigureCanvasSVG(figure)
        axis = figure.add_axes((0.115, 0.17, 0.865, 0.71))
        axis.stairs(kept, edges, fill=True, color=KEPT)
        axis.stairs(kept + out, edges, baseline=kept, fill=True, color=OUT)
        axis.set_xscale("log" if log else "linear")
        low, high = edges[0], edges[-1]
        shown = [(limit, rule) for limit, rule in sorted(lines) if low <= limit <= high]
        for i, (limit, rule) in enumerate(shown):
            axis.axvline(limit, color=INK, lw=1, ls=(0, (3, 2)))
            share = (np.log(limit / low) / np.log(high / low)) if log else (limit - low) / (high - low)
            first = i == 0 and len(shown) > 1  # names of two thresholds lean away from each other
            axis.annotate(rule, (limit, 1.02), xycoords=("data", "axes fraction"), fontsize=7.5,
                          ha="right" if share > 0.7 or (first and share > 0.2) else "left")  # fmt: skip
        axis.set_xlim(low, high)
        *_, second, tallest = np.sort(kept + out)
        if second and tallest > CROWDED * second:
            at = int(np.argmax(kept + out))
            axis.set_ylim(0, 2 * second)
            axis.annotate(f"↑ {tallest:,}", ((edges[at] + edges[at + 1]) / 2, 0.97), xycoords=("data", "axes fraction"),
                          fontsize=7.5, va="top", ha="right" if at > len(kept) / 2 else "left",
                          xytext=(-6 if at > len(kept) / 2 else 6, 0), textcoords="offset points")  # fmt: skip
        axis.grid(axis="x", visible=False)
        axis.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axis.yaxis.set_major_formatter(FuncFormatter(_short))
        if log and high / low >= 100:
            axis.xaxis.set_major_locator(LogLocator(numticks=5))
        else:
            axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.xaxis.set_major_formatter(FuncFormatter(_short))
        axis.xaxis.set_minor_formatter(NullFormatter())
        return svg(figure, f"Histogram of {name}: kept, and left out on top")


def _short(x: float, _: object = None) -> str:
    """A number for a narrow axis."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(x) >= size:
            return f"{x / (size if letter != 'k' else 1e3):g}{letter}"
    return f"{x:g}"


def bars(names: Sequence[str], counts: Sequence[int], label: str) -> Markup:
    """Upright bars of counts, for few ordered values."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.2), layout="constrained")
        FigureCanvasSVG(figure)
        axis = figure.subplots()
        axis.bar(range(len(names)), counts, color=KEPT, width=0.72)
        axis.set_xticks(range(len(names)), names)
        axis.grid(axis="x", visible=False)
        axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axis.set(xlabel=label, ylabel="clips")
        return svg(figure, f"Clips by {label}")


def spectra(curves: Sequence[tuple[str, np.ndarray]]) -> Markup:
    """Power spectra (pictures, k) by name, beside a line that falls as 1/f²: the median, and half of the pictures.

    Row i of a spectrum is i + 1 cycles over the picture.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.2, 3.6), layout="constrained")
        FigureCanvasSVG(figure)
        axis = figure.subplots()
        for (name, power), colour in zip(curves, SERIES, strict=False):
            k = np.arange(1, power.shape[1] + 1) / power.shape[1]
            low, middle, high = np.quantile(power, [0.25, 0.5, 0.75], axis=0)
            axis.plot(k, middle, color=colour, label=f"{name}, {len(power)} of them")
            axis.fill_between(k, low, high, color=colour, alpha=0.18, lw=0)
        power = np.median(curves[0][1], axis=0)
        k, at = np.arange(1, len(power) + 1) / len(power), min(3, len(power) - 1)
        line = power[at] * (k[at] / k) ** 2
        axis.plot(k, line, color=INK, lw=1, ls=(0, (4, 3)), label="1/f², as natural pictures have")
        gap = 8 * " "
        label = ("coarse", "←", "frequency, as a share of the finest that pixels can hold", "→", "fine")
        axis.set(xscale="log", yscale="log", ylabel="power of brightness in [−1, 1]", xlabel=gap.join(label))
        axis.set_xlim(k[0], 1.0)
        axis.set_ylim(bottom=float(np.median(curves[0][1][:, -1])) / 100)  # what 8 bits round off is no picture
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axis.yaxis.set_major_formatter(LogFormatterMathtext())
        for side in (axis.xaxis, axis.yaxis):
            side.set_minor_formatter(NullFormatter())
        axis.legend(fontsize=8, loc="lower left")
        return svg(figure, "Radially averaged power spectra of sampled pictures")
