"""`diorama export`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import say


def export(
    catalogue: Annotated[Path, typer.Argument(metavar="CATALOGUE", help="What `diorama curate` wrote.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder.")],
    form: Annotated[str, typer.Option(help="folder (as Hugging Face reads it), webdataset or parquet.")] = "webdataset",
    release: Annotated[str | None, typer.Option(help="As it was when `diorama tag` gave it this name.")] = None,
) -> None:
    """Write a catalogue's clips for the tools of others: media untouched, with all that is said of them.

    Example:  [bold]diorama export c --out shards --form webdataset[/bold]
    """
    from diorama.data import Catalogue
    from diorama.data.export import export

    say(f"{out}: {export(Catalogue(catalogue, release=release), out, form):,} clips")
