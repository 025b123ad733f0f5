"""The page of a guidance sweep: what each scale buys and costs, and how it looks; nothing is needed beside it."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from markupsafe import Markup

from diorama.core.files import write_text
from diorama.evaluate.score import figure
from diorama.run import Folder
from diorama.run.sweep import TIMES, Measure, Sweep
from diorama.serve.embed import TILE, shown
from diorama.serve.plots import INK, SERIES, STYLE, panels, svg
from diorama.serve.template import template


def write_sweep(folder: Folder, sweeps: Sequence[Sweep]) -> Path:
    """Write `guidance.html` in the run's folder and return its path."""
    run = folder.run()
    clips = [
        [(prompt, [shown(clip, run.sampling.rate, prompt) for clip in row])
         for prompt, row in zip(sweep.prompts, sweep.shown, strict=True)]
        for sweep in sweeps
    ]  # fmt: skip
    page = template("sweep.html.j2", {"figure": figure}).render(
        run=run, path=folder.path, tile=TILE, times=TIMES,
        sweeps=[(s, figures(s), c) for s, c in zip(sweeps, clips, strict=True)],
    )  # fmt: skip
    path = folder.path / "guidance.html"
    write_text(path, page)
    return path


def figures(sweep: Sweep) -> Markup:
    """Quality against diversity, what was asked for, and colours, by scale; dashed is what real clips get."""
    by = {measure.name: measure for measure in sweep.measures}
    quality = by.get("Fréchet distance")
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(3 if quality else 2)
        if quality:
            axis = axes.pop(0)
            axis.plot(by["diversity"].values, quality.values, marker="o")
            for scale, x, y in zip(sweep.scales, by["diversity"].values, quality.values, strict=True):
                axis.annotate(f"{scale:g}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
            for line, real in ((axis.axvline, by["diversity"].real), (axis.axhline, quality.real)):
                if real is not None:
                    line(real, color=INK, lw=1, ls=(0, (4, 3)))
            axis.set(title="Quality against diversity", xlabel="diversity within a prompt", ylabel="Fréchet distance")
        for axis, title, names in (
            (axes[0], "What was asked for", ("label accuracy", "precision", "recall")),
            (axes[1], "Colours, beside real clips", ("clipped", "contrast", "colourfulness")),
        ):
            for colour, measure in zip(SERIES, [by[name] for name in names if name in by], strict=False):
                _by_scale(axis, sweep, measure, colour, relative=axis is axes[1])
            axis.set(title=title, xlabel="guidance", ylim=(0, None))
            if axis.get_lines():
                axis.legend(fontsize=8)
        return svg(figure, f"Guidance of {sweep.bucket}: quality, diversity and colours by scale")


def _by_scale(axis: matplotlib.axes.Axes, sweep: Sweep, measure: Measure, colour: str, relative: bool) -> None:
    """A line, and real clips' figure; `relative` to that figure, where there is one."""
    if relative and not measure.real:
        return
    unit = measure.real if relative and measure.real else 1.0
    axis.plot(sweep.scales, [value / unit for value in measure.values], color=colour, label=measure.name, marker="o")
    if measure.real is not None:
        axis.axhline(measure.real / unit, color=INK if relative else colour, lw=1, ls=(0, (4, 3)))
