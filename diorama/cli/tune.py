"""`diorama tune`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import command, complain, say

FEW = 16  # examples, with fewer of which a judgement says little


def tune(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `diorama train` wrote.")],
    evaluations: Annotated[
        str, typer.Option(metavar="8,10,...", help="How often the model may be asked on the way from noise to data.")
    ] = "8,10,16",
    frames: Annotated[int | None, typer.Option(min=1, help="Length; the longest trained on if left out.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Strength of the run's guidance; 1 is none.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Of the guidance to tune for, as sampling.guidance=APG."),
    ] = None,
    examples: Annotated[
        int, typer.Option(min=2, help="Training prompts to fit to, and as many others to judge by.")
    ] = 64,
) -> None:
    """Find the solver and the noise times that suit a trained run best at few evaluations.

    Every choice is compared with the exact way from the same noise, for prompts of training clips. What was found lies
    in RUN/tuned.json, and `diorama sample` uses it. It may be stopped and goes on with the next number of evaluations.

    Example:  [bold]diorama tune runs/demo --evaluations 8,16 && diorama sample runs/demo --evaluations 8[/bold]
    """
    from diorama.cli.sample import asked, met
    from diorama.core.errors import UserError
    from diorama.run import Generator
    from diorama.run.generate import bucket_for
    from diorama.run.tune import tune_run

    parts = [part.strip() for part in evaluations.split(",")]
    if not all(part.isdecimal() and 0 < int(part) <= 64 for part in parts):
        raise UserError(f"--evaluations {evaluations} does not fit: write numbers from 1 to 64 with commas between")
    for setting in settings or []:
        if not setting.startswith(("sampling.guidance", "sampling.against", "sampling.batch")):
            raise UserError(f"{setting}: solver, grid and steps are what is tuned; set sampling.guidance or .against")
    generator = Generator.load(run)
    bucket = bucket_for(met(generator), frames)
    how = asked(generator.run, settings or [], guidance, None, None)
    if examples < FEW:
        complain(f"note: {examples} examples say little of what is better, and may mislead: give --examples 64 or more")
    for found in tune_run(generator.folder, bucket, how, [int(part) for part in parts], examples=examples):
        ratio, low, high = found["ratio"]
        fixed = found.get("grid", "fitted")
        way = "fitted steps" if fixed == "fitted" else f"steps on {fixed}, for fitted ones did not hold"
        say(f"{found['evaluations']} evaluations: error {found['error']:.3g} [{found['low']:.3g}, {found['high']:.3g}] "
            f"by {found['solver']} in {found['steps']} {way}: {ratio:.2f} [{low:.2f}, {high:.2f}] of the best "
            f"fixed choice in hindsight, {found['fixed'][0]['solver']} on {found['fixed'][0]['grid']}")  # fmt: skip
        if low > 1:
            complain("note: that fixed choice was better on new examples and not on those fitted to, so they are too "
                     "few to tell: give more --examples")  # fmt: skip
    say(f"{bucket}: root mean square over {found['n']} other examples, 95 % intervals; the reference is good to "
        f"{found['reference']:.1g}. next:")  # fmt: skip
    shape = [] if frames is None else ["--frames", frames]
    led = [] if guidance is None else ["--guidance", guidance]
    further = [part for setting in settings or [] for part in ("--set", setting)]
    say(f"  {command('sample', run, '--evaluations', parts[0], *shape, *led, *further)}")
