"""`diorama why`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import say


def why(
    catalogue: Annotated[Path, typer.Argument(metavar="CATALOGUE", help="What `diorama curate` wrote.")],
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="An id or its first digits, or a file.")],
) -> None:
    """Say why a clip is in a catalogue or was left out: what was seen and measured, and every verdict on it.

    Example:  [bold]diorama why c holiday.jpg[/bold]
    """
    from diorama.data import Catalogue

    for explanation in Catalogue(catalogue).explain(clip):
        say(str(explanation))
