"""The loss of a run's averages by their width, as a drawing."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from diorama.core.files import write_aside
from diorama.run.average import Width

STYLE = {"svg.hashsalt": "diorama", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def draw_averages(widths: Sequence[Width], path: Path) -> Path:
    """Write the drawing to `path` (.svg): the loss less that of the run's own average, with 95 % intervals."""
    rows = sorted(widths, key=lambda row: row.std)
    std, difference, margin = zip(*((row.std, row.difference, row.margin) for row in rows), strict=True)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        FigureCanvasSVG(figure)
        axis = figure.subplots()
        axis.axhline(0, lw=1, color="0.5", ls=(0, (4, 3)))
        axis.errorbar(std, difference, margin, marker="o", capsize=2)
        axis.set(title="Averages of the weights", xlabel="relative width", ylabel="loss, less that of the run's own")
        with write_aside(path) as aside:
            figure.savefig(aside, format="svg", metadata={"Date": None})
    return path
