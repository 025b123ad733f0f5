"""`diorama codec`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import say

codec = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@codec.callback()
def _about() -> None:  # with it, a single command still has its name
    """What a codec keeps, and what that costs."""


@codec.command(no_args_is_help=True)
def report(of: Annotated[Path, typer.Argument(metavar="RUN", help="What `diorama train` wrote.")]) -> None:
    """Write one self-contained HTML page about a run's codec.

    Reconstructions beside JPEG, WebP, AVIF, H.264 and H.265 at equal bits and beside resizing at equal numbers, latents
    in colours, spectra, what each channel is worth, whether latents turn with the picture, and how easy they are.

    Example:  [bold]diorama codec report runs/demo[/bold]
    """
    from diorama.run import Folder
    from diorama.serve.codec import write_codec_report

    say(f"report: {write_codec_report(Folder.open(of))}")
