"""`diorama demo`."""

import time
from pathlib import Path
from typing import Annotated

import typer

from diorama.cli import recipes
from diorama.cli.console import command, say, stoppable

QUICK_MEDIA = {"clips": 800, "stills": 200}
QUICK = [
    "codec.train.examples=640", "codec.train.warmup=160", "codec.train.checkpoint_every=320",
    "codec.train.preview_every=0", "denoiser.train.examples=2400", "denoiser.train.warmup=480",
    "denoiser.train.checkpoint_every=800", "denoiser.train.preview_every=0", "sampling.steps=6",
    "sampling.guidance.scale=3", "sampling.batch=32", "evaluation.samples=32", "evaluation.classifier_steps=300",
]  # fmt: skip


def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Everything goes here.", show_default="runs/demo")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One to three minutes, to see the way; samples follow no prompt yet.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change a setting; config.txt in RUN lists them all."),
    ] = None,
) -> None:
    """Go the whole way once, from raw media to a report.

    Handwritten digits, still and moving, become a generator that follows prompts.

    It takes 8 to 15 minutes on two cores and may be killed at any moment: run again, it goes on.

    Example:  [bold]diorama demo --quick[/bold]
    """
    from diorama.core.memory import keep_memory
    from diorama.data import curate
    from diorama.data.catalogue import Catalogue
    from diorama.data.digits import write_digits
    from diorama.evaluate.score import table
    from diorama.run import train_run
    from diorama.run.evaluate import evaluate_run
    from diorama.serve.report import write_report

    keep_memory()
    began = time.monotonic()
    path = out or Path("runs") / ("demo_quick" if quick else "demo")
    run = recipes.resolve("digits", [*(QUICK if quick else []), *(settings or [])])
    with stoppable():
        media = write_digits(path / "media", **(QUICK_MEDIA if quick else {}))
        say(f"{path / 'catalogue'}: {curate([media], path / 'catalogue')}")
        folder = train_run(run, Catalogue(path / "catalogue"), path)
        scores = evaluate_run(folder)
        report = write_report(folder)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    say(table(scores))
    say(f"took {minutes} min {seconds} s; report: {report}")
    say(f"next: {command('sample', path, '--prompt', 'a seven moving left', '--count', 4)}")
