"""`diorama curate`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli import recipes
from diorama.cli.console import command, complain, say


def curate(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SRC...",
            help="Folders, pictures and videos, ZIP or TAR archives (WebDataset), CSV or JSON lists of files, Parquet, "
            "Arrow or Lance tables of encoded media, IDX or NPZ arrays, or other catalogues.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="CATALOGUE", help="The catalogue's folder; sources add up over calls.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            help="What to measure and leave out: curate_stills, curate_videos, or your .py file.",
            show_default="leave out what is broken or there twice",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a setting of the recipe.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what each rule would leave out, draw the clips at its edge, stop.")
    ] = False,
    runner: Annotated[
        str, typer.Option(help="What looks at media: local, daft, or daft-ray (a Ray cluster at RAY_ADDRESS).")
    ] = "local",
) -> None:
    """Bring raw media into a catalogue of clips, with a reason for everything left out.

    Captions and labels come from metadata.jsonl (or .csv) in a folder, NAME.txt beside a file, or a table's columns.
    What was looked at before is not looked at again.

    Example:  [bold]diorama curate ~/media --out c[/bold]
    """
    from diorama.core import override
    from diorama.data import Curation, curate
    from diorama.data.catalogue import read_head
    from diorama.data.rehearse import rehearse

    policy = recipes.policy(recipe, settings or []) if recipe else override(Curation(), settings or [])
    last = read_head(out).get("policy")
    if last and last != policy.fingerprint:
        complain(
            f"note: {out} was curated by other rules, which {out / 'policies' / last}.txt says; these replace them"
        )
    try:
        if dry_run:
            for line in rehearse(sources, out, policy, runner=runner):
                say(line)
            return
        say(f"{out}: {curate(sources, out, policy, runner=runner)}")
    except KeyboardInterrupt:
        complain("stopped: run the same command again to go on")
        raise
    say(f"next: {command('train', 'latent_video', '--data', out)}")
