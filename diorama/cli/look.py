"""`diorama look`."""

from pathlib import Path
from typing import Annotated

import typer


def look(
    catalogue: Annotated[Path, typer.Argument(metavar="CATALOGUE", help="What `diorama curate` wrote.")],
    host: Annotated[str, typer.Option(help="An address that others reach is guarded by a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Of the page.")] = 8765,
) -> None:
    """Look through a catalogue in the browser: what is kept, what was left out and why; keep, drop and take back.

    What is judged there counts from the next `diorama curate` on.

    Example:  [bold]diorama look c[/bold]
    """
    from diorama.serve.look import serve

    serve(catalogue, host, port)
