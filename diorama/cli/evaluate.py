"""`diorama evaluate`."""

import math
import re
from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import command, complain, say


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `diorama train` wrote.")],
    samples: Annotated[
        int | None, typer.Option(min=2, help="How many to draw, for good; as --set evaluation.samples=N.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change how the run samples or is judged, for good."),
    ] = None,
    guidance_sweep: Annotated[
        bool, typer.Option("--guidance-sweep", help="Draw at several strengths: quality against diversity.")
    ] = False,
    scales: Annotated[
        str | None, typer.Option(metavar="1,2,...", help="The strengths of --guidance-sweep.", show_default="1 to 10")
    ] = None,
) -> None:
    """Measure a run on held-back clips.

    Every score says its n, seed and features, and what real clips get under the same measurement.

    Example:  [bold]diorama evaluate runs/demo --set sampling.guidance.scale=3[/bold]
    """
    from diorama.core import UserError, override
    from diorama.evaluate.score import table
    from diorama.run import Folder
    from diorama.run.cascade import CascadeFolder
    from diorama.run.evaluate import evaluate_run, gaps

    if scales is not None and not guidance_sweep:
        raise UserError(f"--scales {scales} is for --guidance-sweep: give that too, or leave out --scales")
    whole = CascadeFolder.holds(run)
    if whole and guidance_sweep:
        raise UserError(f"{run} is a cascade: sweep the guidance of its base, in the folder of that stage")
    folder = CascadeFolder.at(run) if whole else Folder.open(run)
    asked = None if scales is None else strengths(scales)
    last = f"stages.{len(folder.stages()) - 1}." if isinstance(folder, CascadeFolder) else ""
    changes = [*(settings or []), *([] if samples is None else [f"{last}evaluation.samples={samples}"])]
    for change in changes:
        if not re.match(r"stages\.\d+\.(sampling|evaluation)\." if whole else r"(sampling|evaluation)\.", change):
            where = "stages.N." if whole else ""
            raise UserError(f"{change}: only {where}sampling.* and {where}evaluation.* can change after training")
    if changes and isinstance(folder, CascadeFolder):
        folder = folder.changed(override(folder.cascade(), changes))
    elif changes:
        folder = Folder.claim(run, override(folder.written(), changes), folder.catalogue())
    if guidance_sweep:
        from diorama.run.sweep import SCALES, sweep_run
        from diorama.serve.sweep import write_sweep

        found = sweep_run(folder, asked or SCALES)
        say("\n\n".join(sweep.table() for sweep in found))
        say(f"page: {write_sweep(folder, found)}")
        return
    say(table(evaluate_run(folder)))
    for gap in gaps(folder):
        complain(f"note: {gap}")
    say(f"scores: {folder.scores}")
    say(f"next: {command('report', run)}")


def strengths(text: str) -> list[float]:
    """Numbers from "1,2,...", rising. Raises `UserError`."""
    from diorama.core import UserError

    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise UserError(f"--scales {text} does not fit: write numbers with commas between, such as 1,2,4")
    return found
