"""`diorama demo`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from diorama.cli import recipes
from diorama.cli.console import command, say, stoppable

QUICK = (800, 200)  # videos and stills that --quick writes, instead of the 3200 and 800 of `write_digits`


def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Everything goes here.", show_default="runs/demo")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Two to three minutes; samples are poor.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change a setting; config.txt in RUN lists them all."),
    ] = None,
) -> None:
    """Go the whole way once, from raw media to a report.

    Handwritten digits, still and moving, become a generator that follows prompts.

    It takes about 8 minutes on two cores and may be killed at any moment: run again, it goes on.

    Example:  [bold]diorama demo --quick[/bold]
    """
    from diorama.data import curate
    from diorama.data.catalogue import Catalogue
    from diorama.data.digits import write_digits
    from diorama.evaluate.score import table
    from diorama.run import train_run
    from diorama.run.evaluate import evaluate_run
    from diorama.serve.report import write_report

    began = time.monotonic()
    path = out or Path("runs") / ("demo_quick" if quick else "demo")
    run = recipes.resolve("digits", settings or [], function="quick" if quick else "recipe")
    with stoppable():
        media = write_digits(path / "media", *(QUICK if quick else ()))
        say(f"{path / 'catalogue'}: {curate([media], path / 'catalogue')}")
        folder = train_run(run, Catalogue(path / "catalogue"), path)
        scores = evaluate_run(folder)
        report = write_report(folder)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    say(table(scores))
    say(f"took {minutes} min {seconds} s; report: {report}")
    say(f"next: {command('sample', path, '--prompt', 'a seven moving left', '--count', 4)}")
