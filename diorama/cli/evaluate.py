"""`diorama evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import command, say


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `diorama train` wrote.")],
) -> None:
    """Measure a run on held-back clips.

    Every score says its n, seed and features, and what real clips get under the same measurement.

    Example:  [bold]diorama evaluate runs/demo[/bold]
    """
    from diorama.evaluate.score import table
    from diorama.run import Folder
    from diorama.run.evaluate import evaluate_run

    folder = Folder.open(run)
    say(table(evaluate_run(folder)))
    say(f"scores: {folder.scores}")
    say(f"next: {command('report', run)}")
