"""`diorama report`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import say


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `diorama train` wrote.")],
) -> None:
    """Write one self-contained HTML page about a run.

    It shows the data, the codec, spectra, loss by noise level, samples, nearest neighbours, and every score.

    Example:  [bold]diorama report runs/demo[/bold]
    """
    from diorama.run import Folder
    from diorama.serve.report import write_report

    say(f"report: {write_report(Folder.open(run))}")
