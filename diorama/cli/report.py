"""`diorama report`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import say


def report(
    of: Annotated[
        Path,
        typer.Argument(metavar="RUN|CATALOGUE", help="What `diorama train` wrote, or what `diorama curate` wrote."),
    ],
) -> None:
    """Write one self-contained HTML page about a run, or about a catalogue.

    Of a run it shows the data, the codec, spectra, loss by noise level, samples, nearest neighbours, and every score.
    Of a catalogue, what was left out and why, with examples: every number opens its items. Of a cascade there is a
    page for every stage.

    Example:  [bold]diorama report runs/demo[/bold]
    """
    from diorama.core.errors import UserError

    if not of.is_dir():
        raise UserError(f"there is no folder {of}: name what 'diorama train' or 'diorama curate' wrote")
    if (of / "catalogue.json").exists():
        from diorama.serve.curation import write_curation_report

        say(f"report: {write_curation_report(of)}")
        return
    if (of / "cascade.txt").exists():
        from diorama.run.cascade import CascadeFolder
        from diorama.serve.report import write_report

        for stage in CascadeFolder.at(of).stages():
            say(f"report: {write_report(stage)}")
        return
    if not (of / "config.txt").exists():
        raise UserError(
            f"{of} is neither a run nor a finished catalogue: name what 'diorama train' or 'diorama curate' wrote; "
            "where curation was stopped, run it again"
        )
    from diorama.run import Folder
    from diorama.serve.report import write_report

    say(f"report: {write_report(Folder.open(of))}")
