"""`diorama`: the console entry point.

Exit codes: 0 done; 1 the data, the settings, a folder or the disk were wrong (one sentence on standard error says
what); 2 the command line was wrong; 130 interrupted by Ctrl-C; 143 told to stop by SIGTERM, with a checkpoint saved
where training had begun. Anything else is a bug and keeps its traceback.
"""

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from diorama.cli.average import average
from diorama.cli.codec import codec
from diorama.cli.console import complain, of_the_device, of_the_system, quiet, say
from diorama.cli.curate import curate
from diorama.cli.demo import demo
from diorama.cli.edit import edit
from diorama.cli.encode import encode
from diorama.cli.evaluate import evaluate
from diorama.cli.export import export
from diorama.cli.fetch import fetch
from diorama.cli.lab import lab
from diorama.cli.look import look
from diorama.cli.plan import plan
from diorama.cli.report import report
from diorama.cli.sample import sample
from diorama.cli.spectrum import spectrum
from diorama.cli.tag import tag
from diorama.cli.train import train
from diorama.cli.tune import tune
from diorama.cli.why import why

app = typer.Typer(
    help="Train your own image and video generators, from a folder of media to samples and a report.\n\n"
    "Start with:  [bold]diorama demo[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Say the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        say(f"diorama {importlib.metadata.version('diorama')}")
        raise typer.Exit


for command in (
    demo, fetch, curate, look, why, tag, export,
    encode, plan, train, average, tune, sample, edit, evaluate, report, spectrum, lab,
):  # fmt: skip
    app.command(no_args_is_help=command not in (demo, lab))(command)
app.add_typer(codec, name="codec")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line `args` (those of the process if None). Leaves by `SystemExit`."""
    quiet()
    try:
        app(args, prog_name="diorama")
    except Exception as error:
        from diorama.core.errors import UserError  # here, because it brings JAX along and `--help` is to be quick

        said = str(error) if isinstance(error, UserError) else of_the_system(error) or of_the_device(error)
        if said is None:
            raise
        complain(said)
        jax = sys.modules.get("jax")
        if jax and jax.distributed.is_initialized():
            os._exit(1)  # in order, it would wait minutes for the other processes, which wait for it
        raise SystemExit(1) from None
