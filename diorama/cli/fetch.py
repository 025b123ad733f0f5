"""`diorama fetch`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import command, complain, say


def fetch(
    urls: Annotated[
        Path, typer.Argument(metavar="LIST", help="CSV, JSON lines or Parquet with a column 'url', and any others.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where files go; lists add up over calls.")],
    contact: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Your e-mail or web page, which is sent along to every server.")
    ],
    again: Annotated[bool, typer.Option("--again", help="Also look for what failed before.")] = False,
    delay: Annotated[float, typer.Option(min=0, help="Seconds between two requests to one host.")] = 1.0,
    at_once: Annotated[int, typer.Option(min=1, help="Requests at once, to different hosts.")] = 16,
    megabytes: Annotated[float, typer.Option(min=0.001, help="The largest file that is fetched.")] = 64.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="The longest time for one file.")] = 60.0,
    private: Annotated[
        bool, typer.Option("--private", help="Also ask servers on this machine and in its network.")
    ] = False,
) -> None:
    """Fetch the media that a list of web addresses names, politely, for `curate`.

    What robots.txt forbids or a server reserves from training is left there. A call that was killed goes on when run
    again. The list's captions, licences and authors go along.

    Example:  [bold]diorama fetch urls.csv --out media --contact me@example.org[/bold]
    """
    from diorama.data.sources.transfer import PRIVATE
    from diorama.data.sources.web import Manners, fetch_list

    manners = Manners(
        contact, delay=delay, at_once=at_once, most_bytes=int(megabytes * 1e6), seconds=seconds, private=private
    )
    tally = fetch_list(urls, out, manners, again=again)
    say(f"{out}: {tally}")
    if PRIVATE in tally.failed and not private:
        complain("note: addresses of this machine and of its network are asked only with --private --again")
    say(f"next: {command('curate', out, '--out', 'catalogue')}")
