"""The laboratory's page: one HTML file that needs nothing beside it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from diorama.core.files import write_text
from diorama.evaluate.lab.errors import REFERENCE
from diorama.serve.plots import INK, SERIES, STYLE, panels, svg
from diorama.serve.template import template

BUDGETS = (10, 20, 40)  # evaluations
KARRAS = "Karras"
ORDER = 0.3  # how far a slope may lie from the nominal order
SILENT = (", eta=0.0", ", when=Constant()", "(scale=3.0)", "scale=3.0, ", "sigma_data=1.0, ", "noise=White(), ",
          "noise=White()")  # fmt: skip
Results = dict[str, Any]


def write_lab_page(results: Results, out: Path) -> Path:
    """Write `out`/lab.html about what `diorama.evaluate.lab.lab.run` gave, and return its path."""
    page = template("lab.html.j2", {"figure": figure, "short": short, "percent": "{:+.1%}".format}).render(
        about=results["about"], results=results, budgets=BUDGETS, reference=REFERENCE, order=ORDER,
        steps=results["errors"][0]["steps"], grids=list(results["errors"][0]["errors"]),
        karras=sorted(results["errors"], key=lambda row: row["errors"][KARRAS][-1]),
        ranks={budget: ranking(results["errors"], budget) for budget in BUDGETS},
        errors=errors_plot(results["errors"]), orders=orders_plot(results["orders"]), spectra=spectra_plot(results),
        inversions=inversions_plot(results), reached=reached(results["orders"]),
    )  # fmt: skip
    path = out / "lab.html"
    write_text(path, page)
    return path


def figure(x: float | None) -> str:
    """Three significant digits, small ones as powers of ten."""
    return "–" if x is None or not np.isfinite(x) else f"{x:.3g}" if abs(x) >= 1e-3 or x == 0 else f"{x:.1e}"


def short(name: str) -> str:
    """A component without the settings that say nothing: `DPMSolver(order=2, eta=0.0)` is DPMSolver(order=2)."""
    for nothing in SILENT:
        name = name.replace(nothing, "")
    return re.sub(r"(\w)\(\)", r"\1", name)  # Heun() is Heun


def ranking(rows: Sequence[Results], budget: int) -> list[tuple[Results, str, int, float, dict[str, float]]]:
    """Each solver's best grid for at most `budget` evaluations: (row, grid, evaluations, error, error by grid).

    Without those that decide themselves how often they ask.
    """
    found = []
    for row in rows:
        if row["adaptive"]:
            continue
        fits = [i for i, count in enumerate(row["evaluations"]) if count <= budget]
        if fits:
            errors = {grid: values[fits[-1]] for grid, values in row["errors"].items()}
            best = min(errors, key=lambda grid: errors[grid])
            found.append((row, best, row["evaluations"][fits[-1]], errors[best], errors))
    return sorted(found, key=lambda each: each[3])


def reached(rows: Sequence[Results]) -> int:
    """How many solvers have their order on one of both kinds of step."""
    return sum(nearest(row) <= ORDER for row in rows)


def nearest(row: Results) -> float:
    """How far the better slope lies from the nominal order."""
    return min((abs(slope - row["nominal"]) for slope in row["slopes"] if slope is not None), default=np.inf)


def errors_plot(rows: Sequence[Results]) -> Markup:
    """Error against evaluations, on the Karras grid and on each solver's best; the five best at 20 have names."""
    best = [row["name"] for row, *_ in ranking(rows, 20)]
    with matplotlib.rc_context(STYLE):
        drawing, axes = panels(2)
        for axis, title, pick in zip(axes, ("Karras grid", "Each solver's best grid"), (False, True), strict=True):
            for row in sorted(rows, key=lambda row: -_place(best, row)):
                if row["adaptive"]:
                    continue
                grids = row["errors"] if pick else [KARRAS]
                errors = np.min([row["errors"][grid] for grid in grids], axis=0)
                _line(axis, row["evaluations"], errors, row, _place(best, row))
            _log(axis, "network evaluations", "error" if not pick else "")
            axis.set(title=title)
        _names(drawing, axes[0], best_last=True)
        return svg(drawing, "Error against network evaluations")


def orders_plot(rows: Sequence[Results]) -> Markup:
    """Errors against steps even in logsnr, and even in sigma / alpha, with slopes 1 to 4."""
    rows = sorted(rows, key=lambda row: row["errors"][0][-1])
    with matplotlib.rc_context(STYLE):
        drawing, axes = panels(2)
        for kind, (axis, title) in enumerate(zip(axes, ("Steps even in log-SNR", "Steps even in σ/α"), strict=True)):
            for place, row in enumerate(rows):
                _line(axis, row["steps"], row["errors"][kind], row, -1 if row["own"] else place)
            _log(axis, "steps", "error" if not kind else "")
            axis.set(title=title)
        _names(drawing, axes[0])
        return svg(drawing, "Error against steps")


def spectra_plot(results: Results) -> Markup:
    """Spectra of samples over the truth's."""
    rows = results["spectra"]
    with matplotlib.rc_context(STYLE):
        drawing, axes = panels(2)
        for axis, kind in zip(axes, ("pictures", "videos"), strict=True):
            for colour, row in zip(SERIES, (row for row in rows if row["name"].startswith(kind)), strict=False):
                ratio = np.asarray(row["spectrum"]) / row["law"]
                axis.plot(np.arange(1, len(ratio) + 1), ratio, color=colour, label=short(row["name"]))
            axis.axhspan(0.98, 1.02, color=SERIES[2], alpha=0.15, lw=0)
            axis.set(title=f"{kind.capitalize()}: power over the truth", xlabel="cycles over the shorter side")
            axis.set(xscale="log", ylim=(0.9, 1.1))
            axis.xaxis.set_major_locator(LogLocator(base=2))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.legend(fontsize=7.5)
        return svg(drawing, "Spectra of samples over the truth")


def inversions_plot(results: Results) -> Markup:
    """Round trips, and errors of likelihoods, against steps."""
    with matplotlib.rc_context(STYLE):
        drawing, axes = panels(2)
        for axis, kind, title in zip(axes, ("inversions", "likelihood"), ("Round trip", "Likelihood"), strict=True):
            for place, row in enumerate(results.get(kind, [])):
                axis.plot(row["steps"], row["errors"], marker="o", color=SERIES[place % len(SERIES)],
                          ls="-" if place < len(SERIES) else (0, (4, 2)), label=short(row["name"]))  # fmt: skip
            _log(axis, "steps", "error" if kind == "inversions" else "error of log p, nats")
            axis.set(title=title)
            if axis.lines:
                axis.legend(fontsize=7.5)
        return svg(drawing, "Round trips and likelihoods against steps")


def _place(best: Sequence[str], row: Results) -> int:
    return -1 if row["own"] else best.index(row["name"]) if row["name"] in best else len(best)


def _line(axis: Axes, x: Sequence[float], errors: Any, row: Results, place: int) -> None:
    """The five first in colours and with their names, and a user's own; the others thin. A curve that lies mostly on
    one drawn before is dashed, so that both are seen."""
    if place < len(SERIES):
        colour = INK if row["own"] else SERIES[place]
        named = [line.get_ydata() for line in axis.lines if line.get_zorder() == 3]
        equal = any(np.isclose(errors, other, rtol=0.1).mean() > 0.5 for other in named)  # 0.1: as wide as a line
        axis.plot(x, errors, marker="o", color=colour, label=short(row["name"]), zorder=3,
                  ls=(0, (3, 3)) if equal else "-")  # fmt: skip
    else:
        axis.plot(x, errors, color=INK, lw=0.7, alpha=0.35, zorder=2)


def _names(drawing: Figure, axis: Axes, best_last: bool = False) -> None:
    """The names of the curves of `axis`, which are those of all panels, below them."""
    handles, labels = axis.get_legend_handles_labels()
    step = -1 if best_last else 1
    drawing.set_figheight(3.8)
    drawing.legend(handles[::step], labels[::step], fontsize=7.5, loc="outside lower center", ncols=3)


def _log(axis: Axes, x: str, y: str) -> None:
    axis.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
