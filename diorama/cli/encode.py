"""`diorama encode`."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diorama.cli.console import complain, say

if TYPE_CHECKING:
    from diorama.run import Run

CHANGEABLE = ("denoiser.buckets", "denoiser.latents", "layout")


def encode(
    catalogue: Annotated[Path, typer.Argument(metavar="CATALOGUE", help="What `diorama curate` wrote.")],
    codec: Annotated[Path, typer.Option(metavar="RUN", help="The run whose codec it is.")],
    release: Annotated[str | None, typer.Option(help="As it was when `diorama tag` gave it this name.")] = None,
    flips: Annotated[bool, typer.Option("--flips", help="Every clip mirrored too.")] = False,
    crops: Annotated[
        int | None, typer.Option(metavar="N", help="Windows of every clip, the middle one first.", min=1)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help=f"Change a setting of RUN: {', '.join(CHANGEABLE)}."),
    ] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Of the first of several processes; auto on SLURM, Open MPI, TPU pods."),
    ] = None,
    processes: Annotated[int | None, typer.Option(metavar="N", help="How many processes encode together.")] = None,
    process: Annotated[int | None, typer.Option(metavar="I", help="Which of them this is, from 0.")] = None,
) -> None:
    """Compute the latents of a catalogue's training clips once, for all runs with this codec.

    They lie beside the clips, in CATALOGUE/latents. `diorama train` reads them, and computes what is missing itself;
    flips and crops it draws from where it is asked to: --set denoiser.latents.flips=true.

    It may be killed at any moment: the same command goes on. Clips that were there are not encoded again.

    On 8 devices: --set layout.data=8. On several machines that share a file system, the same command on each, with
    --coordinator.

    Example:  [bold]diorama encode c --codec runs/latent_video --flips[/bold]
    """
    from diorama.codec import PixelCodec
    from diorama.core.errors import UserError
    from diorama.core.layout import join
    from diorama.data import Catalogue
    from diorama.run import Folder
    from diorama.run.examples import sources
    from diorama.run.latents import Cache, fingerprint

    if coordinator or processes is not None or process is not None:
        join(coordinator, processes, process)
    folder = Folder.open(codec)
    asked = ["denoiser.latents.flips=True"] * flips + [f"denoiser.latents.crops={crops}"] * (crops is not None)
    run, held = _changed(folder.run(), [*(settings or []), *asked]), Catalogue(catalogue, release=release)
    model = folder.codec()
    if isinstance(model, PixelCodec):
        raise UserError(f"{codec} is trained on pixels, so there is nothing to encode: name a run with a codec")
    with _stoppable():
        for bucket, source in sources(held, run.denoiser.buckets):
            cache = Cache(held.path, fingerprint(folder), source, bucket, run.denoiser.latents)
            new = cache.fill(model, run.layout, f"latents {bucket}")
            say(f"{bucket}: {_told(cache.statistics(), new, cache.clips, cache.bytes)}")
            say(f"  in {cache.path}")


def _changed(run: "Run", settings: list[str]) -> "Run":
    from diorama.core import override
    from diorama.core.errors import UserError

    for setting in settings:
        if not setting.startswith(tuple(f"{path}." for path in CHANGEABLE)):
            known = ", ".join(f"{path}.*" for path in CHANGEABLE)
            raise UserError(f"{setting}: the codec is trained, and only {known} can be changed")
    return override(run, settings)


def _told(statistics: dict[str, Any], new: int, clips: int, size: int) -> str:
    """What a pass did, and what the latents are like."""
    held, shape = statistics["latents"] - new, " x ".join(map(str, statistics["shape"]))
    ends = {name: f"{min(statistics[name]):.2f} to {max(statistics[name]):.2f}" for name in ("mean", "deviation")}
    return (
        f"{new:,} latents encoded and {held:,} there already, of {clips:,} clips, {size / 1e6:,.1f} MB\n"
        f"  {shape} each; over channels the mean is {ends['mean']}, the deviation {ends['deviation']}"
    )


@contextmanager
def _stoppable() -> Iterator[None]:
    """Leaves tidily on Ctrl-C and SIGTERM, and says how to go on; the exit code is 128 + signal."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        complain("stopped: run the same command again to go on")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
