"""`diorama tag`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import say


def tag(
    catalogue: Annotated[Path, typer.Argument(metavar="CATALOGUE", help="What `diorama curate` wrote.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the release, such as v1.")],
) -> None:
    """Name a catalogue as it is now, so that it can be trained on and exported again whatever is curated later.

    Example:  [bold]diorama tag c v1[/bold]
    """
    from diorama.data import Catalogue

    found = Catalogue(catalogue)
    found.tag(name)
    say(f"{catalogue}: {name} is {len(found.clips()):,} clips, manifest {found.hash()[:8]}")
