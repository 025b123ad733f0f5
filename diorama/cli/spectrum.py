"""`diorama spectrum`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import say


def spectrum(
    of: Annotated[
        Path | None,
        typer.Argument(metavar="[DATA|RUN]", help="A catalogue, a folder of media, one file, or a run."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="HTML", help="Where the page goes; spectrum.html beside them if left out.")
    ] = None,
    plates: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write plates of a picture (a built-in one if none is named) instead."),
    ] = None,
) -> None:
    """Write one self-contained HTML page about the spectra of data or of a run.

    Power in space and in time with the power laws that fit, and the noise time at which each frequency drowns. Of a run
    also latents against pixels, what the codec loses, every step of sampling from coarse to fine, and an alarm for
    grids. The plates show which errors people see: fewer bits, noise in one octave at a time, and a chart of contrasts.

    Example:  [bold]diorama spectrum runs/demo[/bold]
    """
    from diorama.core.errors import UserError

    if plates is not None:
        if out is not None:
            raise UserError("--plates writes pictures and no page: leave out --out")
        from diorama.serve.plates import write_plates

        for path in write_plates(plates, of):
            say(f"plate: {path}")
        return
    if of is None:
        raise UserError("name what to measure: a catalogue, a folder of media, a picture or video, or a run")
    from diorama.serve.spectrum import write_spectrum

    page, lines = write_spectrum(of, out)
    for line in lines:
        say(line)
    say(f"spectrum: {page}")
