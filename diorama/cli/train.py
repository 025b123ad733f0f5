"""`diorama train`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli import recipes
from diorama.cli.console import command, say, stoppable


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name, or a path to a .py file.")],
    data: Annotated[Path, typer.Option(metavar="CATALOGUE", help="What `diorama curate` wrote.")],
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run's folder.", show_default="runs/RECIPE")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change a setting; config.txt in RUN lists them all."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random; the same as --set seed=N.")] = None,
) -> None:
    """Train a recipe on a catalogue, or go on where an earlier call was stopped.

    It may be killed at any moment: the same command goes on, and ends with the same numbers.

    On 8 devices: --set layout.data=8 splits batches, --set layout.fsdp=8 parameters and optimiser state too.

    Example:  [bold]diorama train latent_video --data c --set seed=1[/bold]
    """
    from diorama.data import Catalogue
    from diorama.run import train_run

    run = recipes.resolve(recipe, settings or [], seed)
    path = out or Path("runs") / run.name
    with stoppable():
        folder = train_run(run, Catalogue(data), path)
    prompt = ("--prompt", "...") if folder.text_config() else ()
    say(f"{path}: trained. next:")
    say(f"  {command('sample', path, *prompt)}")
    say(f"  {command('evaluate', path)}")
    say(f"  {command('report', path)}")
