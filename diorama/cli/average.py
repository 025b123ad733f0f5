"""`diorama average`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import command, complain, say


def average(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `diorama train` wrote.")],
    std: Annotated[
        float | None, typer.Option(help="The width: the deviation of what is averaged over, as a part of training.")
    ] = None,
    sweep: Annotated[
        str | None, typer.Option(metavar="0.03,0.05,...", help="Measure the loss of averages of these widths instead.")
    ] = None,
    examples: Annotated[
        int | None, typer.Option(metavar="N", help="As it was after N training examples; as it is if left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the run goes.", show_default="RUN and the width")
    ] = None,
) -> None:
    """Average a run's weights with another width than it kept, after training.

    What comes out is a run of its own, which `diorama sample` and `diorama evaluate` take. RUN stays as it is, and has
    to have kept snapshots: train it with --set denoiser.train.snapshot_every=N, some 16 of them in all.

    --sweep says which width is best, by the loss on held-back clips: a table and a drawing.

    Example:  [bold]diorama average runs/demo --sweep 0.03,0.05,0.1,0.2 && diorama average runs/demo --std 0.1[/bold]
    """
    from diorama.core.errors import UserError
    from diorama.run import Folder
    from diorama.run.average import average_run, sweep_averages
    from diorama.serve.average import draw_averages

    if (std is None) == (sweep is None):
        raise UserError("say one of --std, the width of the average, and --sweep, several to compare")
    folder = Folder.open(run)
    if std is not None:
        at = "" if examples is None else f"-{examples}"
        made = average_run(folder, std, examples, out or run.with_name(f"{run.name}-{std:g}{at}"))
        say(f"{made.path}: the average of width {std:g}. next:")
        say(f"  {command('sample', made.path)}")
        say(f"  {command('evaluate', made.path)}")
        return
    if out is not None:
        raise UserError("--sweep measures and makes no run: leave out --out")
    widths, n = sweep_averages(folder, _widths(sweep or ""), examples)
    say("width     loss  less the run's own, 95 % interval")
    for row in widths:
        say(f"{row.std:5g}  {row.loss:.5f}  {row.difference:+.5f} ± {row.margin:.5f}")
    say(f"n = {n} held-back clips, the same noise for all")
    best = min(widths, key=lambda row: row.loss)
    if best in (min(widths, key=lambda row: row.std), max(widths, key=lambda row: row.std)) and len(widths) > 2:
        complain("note: the best width is the last one on its side: sweep further there")
    say(f"drawing: {draw_averages(widths, folder.path / 'evaluation' / 'averages.svg')}. next:")
    moment = [] if examples is None else ["--examples", examples]
    say(f"  {command('average', run, '--std', f'{best.std:g}', *moment)}")


def _widths(text: str) -> list[float]:
    """Numbers from "0.03,0.05,...", rising."""
    from diorama.core.errors import UserError
    from diorama.train.ema import gamma_of

    try:
        found = sorted({float(part) for part in text.split(",")})
        for std in found:
            gamma_of(std)
    except ValueError as error:
        raise UserError(f"--sweep {text} does not fit: write numbers such as 0.03,0.05,0.1 ({error})") from None
    return found
