"""`diorama curate`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import command, say


def curate(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="SRC...", help="Folders of media, Parquet files with encoded images, IDX or NPZ files."),
    ],
    out: Annotated[Path, typer.Option(metavar="CATALOGUE", help="The catalogue's folder; sources add up over calls.")],
) -> None:
    """Bring raw media into a catalogue of clips, with a reason for everything left out.

    Captions and labels come from metadata.jsonl (or .csv) in a folder, NAME.txt beside a file, or a table's columns.
    What was looked at before is not looked at again.

    Example:  [bold]diorama curate ~/media --out c[/bold]
    """
    from diorama.data import curate

    say(f"{out}: {curate(sources, out)}")
    say(f"next: {command('train', 'latent_video', '--data', out)}")
