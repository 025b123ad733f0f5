"""`diorama train`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli import recipes
from diorama.cli.console import command, complain, say, stoppable


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's name, its .py file, or a run's config.txt.")
    ],
    data: Annotated[Path, typer.Option(metavar="CATALOGUE", help="What `diorama curate` wrote.")],
    release: Annotated[str | None, typer.Option(help="As it was when `diorama tag` gave it this name.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run's folder.", show_default="runs/ and the run's name")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change a setting; config.txt in RUN lists them all."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random; the same as --set seed=N.")] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Of the first of several processes; auto on SLURM, Open MPI, TPU pods."),
    ] = None,
    processes: Annotated[int | None, typer.Option(metavar="N", help="How many processes train together.")] = None,
    process: Annotated[int | None, typer.Option(metavar="I", help="Which of them this is, from 0.")] = None,
) -> None:
    """Train a recipe on a catalogue, or go on where an earlier call was stopped.

    It may be killed at any moment: the same command goes on, and ends with the same numbers, whatever was curated
    meanwhile.

    On 8 devices: --set layout.data=8 splits batches, --set layout.fsdp=8 parameters and optimiser state too.

    On several machines that share a file system, the same command on each, with --coordinator.

    Example:  [bold]diorama train latent_video --data c --set seed=1[/bold]
    """
    from diorama.core.layout import join
    from diorama.data import Catalogue
    from diorama.run import Folder, train_run
    from diorama.run.examples import clips

    if coordinator or processes is not None or process is not None:
        join(coordinator, processes, process)
    run, catalogue = recipes.resolve(recipe, settings or [], seed), Catalogue(data, release=release)
    path = out or Path("runs") / run.name
    catalogue = catalogue if release else Folder(path).begun_on(catalogue)
    for bucket in run.denoiser.buckets:
        source, frames = clips(catalogue, bucket, "train"), 1 + (bucket.frames - 1) * bucket.stride
        say(f"{bucket}: {f'{len(source):,} examples' if source else f'left out, no clip has {frames} frames'}")
    for name, stage in (("codec", run.codec.train), ("denoiser", run.denoiser.train)):
        if stage and stage.warmup > stage.examples:
            complain(f"note: {name}.train.warmup is {stage.warmup:,} of {stage.examples:,} examples: lower it too")
    with stoppable():
        folder = train_run(run, catalogue, path)
    captions = catalogue.clips("train")["caption"]
    prompt = ("--prompt", "...") if folder.text_config() and captions.null_count < len(captions) else ()
    say(f"{path}: trained. next:")
    say(f"  {command('sample', path, *prompt)}")
    say(f"  {command('evaluate', path)}")
    say(f"  {command('report', path)}")
