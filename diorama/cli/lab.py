"""`diorama lab`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import complain, say


def lab(
    solver: Annotated[
        Path | None, typer.Option(metavar="FILE.py", help="Measure the solvers of this Python file too. It is run.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer examples: to see that something works, not to cite.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where lab.html and lab.json go.")] = Path("lab"),
    process: Annotated[
        str, typer.Option(metavar="NAME", help="What solvers walk where errors and biases are measured.")
    ] = "EDM",
) -> None:
    """Measure every solver, grid, guidance and inversion against exact truths, and write one page.

    Your own solvers come first. Rows that were measured before, with the same settings and code, are read back, so a
    run that was stopped goes on.

    Example:  [bold]diorama lab --quick --solver mine.py[/bold]
    """
    from diorama.core.errors import UserError
    from diorama.evaluate.lab.lab import Lab, own_solvers, run
    from diorama.process import PROCESSES, ShiftedBySize
    from diorama.serve.lab import write_lab_page

    known = {kind.__name__: kind for kind in PROCESSES if kind is not ShiftedBySize}
    if process not in known:
        raise UserError(f"--process {process}: choose one of {', '.join(known)}")
    try:
        results = run(Lab(quick, known[process](), own_solvers(solver) if solver else ()), out)
    except KeyboardInterrupt:
        complain("stopped; the rows measured so far are kept: run the same command again to go on")
        raise
    about = results["about"]
    say(f"rows: {about['measured']} measured, {about['rows'] - about['measured']} read back")
    say(f"results: {out / 'lab.json'}")
    say(f"page: {write_lab_page(results, out)}")
