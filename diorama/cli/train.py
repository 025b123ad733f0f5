"""`diorama train`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diorama.cli import recipes
from diorama.cli.console import command, complain, say, stoppable

if TYPE_CHECKING:
    from diorama.run import Run
    from diorama.run.cascade import Cascade


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
    size: Annotated[
        str | None,
        typer.Option(
            metavar="S",
            help="Of its transformer: XS, S, B, L, XL, XXL or G. Learning rates stay right.",
            show_default="as the recipe says",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random; the same as --set seed=N.")] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Of the first of several processes; auto on SLURM, Open MPI, TPU pods."),
    ] = None,
    processes: Annotated[int | None, typer.Option(metavar="N", help="How many processes train together.")] = None,
    process: Annotated[int | None, typer.Option(metavar="I", help="Which of them this is, from 0.")] = None,
    trace: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Profile N steps of the codec and of the denoiser; it says where the trace is."
        ),
    ] = 0,
) -> None:
    """Train a recipe on a catalogue, or go on where an earlier call was stopped.

    It may be killed at any moment: the same command goes on, and ends with the same numbers, whatever was curated
    meanwhile.

    A cascade is trained stage by stage: --set stages.1.denoiser.train.examples=64000.

    On 8 devices: --set layout.data=8 splits batches, --set layout.fsdp=8 parameters and optimiser state too.

    On several machines that share a file system, the same command on each, with --coordinator.

    Example:  [bold]diorama train latent_video --data c --set seed=1[/bold]
    """
    from diorama.core.layout import join
    from diorama.core.memory import keep_memory
    from diorama.data import Catalogue
    from diorama.run import Folder, train_run
    from diorama.run.cascade import Cascade, train_cascade
    from diorama.run.examples import clips

    keep_memory()
    if coordinator or processes is not None or process is not None:
        join(coordinator, processes, process)
    made, catalogue = recipes.trainable(recipe, settings or [], seed, size), Catalogue(data, release=release)
    if trace:
        made = _traced(made, trace)
    path = out or Path("runs") / made.name
    stages = made.stages if isinstance(made, Cascade) else (made,)
    base = Folder(path / stages[0].name if isinstance(made, Cascade) else path)
    catalogue = catalogue if release else base.begun_on(catalogue)
    for run in stages:
        called = f"{run.name}: " if isinstance(made, Cascade) else ""
        for bucket in run.denoiser.buckets:
            source, frames = clips(catalogue, bucket, "train"), 1 + (bucket.frames - 1) * bucket.stride
            none = "of {} frames or more is nearest to this shape" if bucket.aspects else "has {} frames"
            if source:
                say(f"{called}{bucket}: {len(source):,} examples")
            else:
                complain(f"note: {called}{bucket}: left out, no clip {none.format(frames)}")
        for name, stage in (("codec", run.codec.train), ("denoiser", run.denoiser.train)):
            if stage and stage.warmup > stage.examples:
                short = f"{name}.train.warmup is {stage.warmup:,} of {stage.examples:,} examples: lower it too"
                complain(f"note: {called}{short}")
    with stoppable():
        if isinstance(made, Cascade):
            folder = train_cascade(made, catalogue, path).stages()[0]
        else:
            folder = train_run(made, catalogue, path)
    captions = catalogue.clips("train")["caption"]
    prompt = ("--prompt", "...") if folder.text_config() and captions.null_count < len(captions) else ()
    say(f"{path}: trained. next:")
    say(f"  {command('sample', path, *prompt)}")
    say(f"  {command('evaluate', path)}")
    say(f"  {command('report', path)}")


def _traced(made: "Run | Cascade", steps: int) -> "Run | Cascade":
    """The run or cascade, with a profile of so many steps of each of its trainings."""
    from diorama.core import override
    from diorama.run.cascade import Cascade

    stages = {f"stages.{i}.": run for i, run in enumerate(made.stages)} if isinstance(made, Cascade) else {"": made}
    trains = [f"{at}{name}.train" for at, run in stages.items() for name in ("codec", "denoiser")
              if getattr(run, name).train]  # fmt: skip
    return override(made, [f"{train}.trace={steps}" for train in trains])
