"""`diorama codec`."""

from pathlib import Path
from typing import Annotated

import typer

from diorama.cli.console import say

codec = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@codec.callback()
def _about() -> None:
    """A run's codec: what it keeps, what that costs, and its weights for others."""


@codec.command(no_args_is_help=True)
def report(
    of: Annotated[Path, typer.Argument(metavar="RUN", help="What `diorama train` wrote.")],
    lpips: Annotated[
        Path | None,
        typer.Option(metavar="WEIGHTS", help="Measure LPIPS too: AlexNet's or VGG16's weights, as safetensors."),
    ] = None,
    heads: Annotated[
        Path | None,
        typer.Option("--lpips-heads", metavar="WEIGHTS", help="LPIPS's linear weights, if --lpips lacks them."),
    ] = None,
) -> None:
    """Write one self-contained HTML page about a run's codec.

    Reconstructions beside JPEG, WebP, AVIF, H.264 and H.265 at equal bits and beside resizing at equal numbers, latents
    in colours, spectra, what each channel is worth, whether latents turn with the picture, and how easy they are.
    Without --lpips, the perceptual distance is that of the run's own network, where the codec was trained with one.

    Example:  [bold]diorama codec report runs/demo[/bold]
    """
    from diorama.core.errors import UserError
    from diorama.run import Folder
    from diorama.run.diagnose import lpips as perceptual
    from diorama.serve.codec import write_codec_report

    if heads and not lpips:
        raise UserError("--lpips-heads is a part of LPIPS: give the network's weights with --lpips too")
    folder = Folder.open(of)
    say(f"report: {write_codec_report(folder, perceptual(lpips, heads) if lpips else None)}")


@codec.command(no_args_is_help=True)
def export(
    of: Annotated[Path, typer.Argument(metavar="RUN", help="What `diorama train` wrote.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder, or an earlier export.")],
) -> None:
    """Write a run's codec for diffusers: what AutoencoderKL.from_pretrained(FOLDER) loads.

    For runs whose codec is an AutoencoderKL, trained or taken; the statistics of its latents go with it.

    Example:  [bold]diorama codec export runs/mine --out vae[/bold]
    """
    from diorama.interop.diffusers import export_kl
    from diorama.run import Folder

    say(f"codec: {export_kl(Folder.open(of).codec(), out)}")
