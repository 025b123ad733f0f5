"""`diorama edit`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diorama.cli.console import complain, say

if TYPE_CHECKING:
    from diorama.run import Run


class Method(StrEnum):
    """The inversions of `diorama.sample.invert`."""

    reversible = "reversible"
    fixed_point = "fixed-point"
    naive = "naive"


def edit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `diorama train` wrote.")],
    media: Annotated[Path, typer.Argument(metavar="MEDIA", help="A picture, or a video of enough frames.")],
    source: Annotated[str | None, typer.Option("--from", help="What MEDIA shows.")] = None,
    prompt: Annotated[str | None, typer.Option(help="What it is to show.")] = None,
    from_label: Annotated[str | None, typer.Option(help="The class of MEDIA, by number or name.")] = None,
    label: Annotated[str | None, typer.Option(help="The class that it is to be of.")] = None,
    strength: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How far up to noise; at 1 hardly more than the place is kept.")
    ] = 0.8,
    method: Annotated[
        Method, typer.Option(help="How MEDIA is inverted; naive does not come back to it.")
    ] = Method.reversible,
    frames: Annotated[int | None, typer.Option(min=1, help="Length; the longest of the run if left out.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Towards --prompt, on the way down; 1 is none.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="From noise to data; fewer for less strength.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="How to sample this once, as sampling.solver=Heun."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; a folder edit-... in RUN/samples if left out.")
    ] = None,
) -> None:
    """Change a picture or a video of your own into what a prompt says, and keep the rest.

    It is taken up to noise under what it shows, and down under what it is to show; nothing is drawn at random. Written
    are MEDIA cut to size (000000), as it comes back unedited through the codec (000001), and the edit (000002).

    Example:  [bold]diorama edit runs/demo seven.mp4 --from "a seven moving left" --prompt "a three moving left"[/bold]
    """
    import numpy as np

    from diorama.cli.sample import asked, met, shaped
    from diorama.core.config import to_text
    from diorama.core.errors import UserError
    from diorama.core.files import hash_bytes, hash_file
    from diorama.media import BadMedia, probe
    from diorama.run import Generator
    from diorama.run.edit import edit
    from diorama.run.generate import bucket_for, write_samples
    from diorama.sample.invert import FixedPoint, Naive, Reversible

    generator = Generator.load(run)
    config = generator.run
    if prompt is None and label is None:
        raise UserError("an edit needs to know what to make: give --prompt, or --label")
    (words, kind), (wish, kind_wish) = (described(config, *given) for given in ((source, from_label), (prompt, label)))
    how = asked(config, settings or [], guidance, steps, None)
    try:
        still = probe(media).kind == "image"
    except BadMedia as bad:
        raise UserError(f"{media} cannot be used: {bad}") from None
    bucket = bucket_for(met(generator), 1 if still else frames)
    given = shaped(media, bucket)
    if len(given) < bucket.frames:
        raise UserError(f"{media} has {len(given)} frames and the run takes {bucket.frames}: give a longer one")
    methods = {Method.reversible: Reversible, Method.fixed_point: FixedPoint, Method.naive: Naive}
    found = edit(
        generator, given, (words, kind), (wish, kind_wish),
        strength=strength, method=methods[method], sampling=how,
    )  # fmt: skip
    if found.residual > FixedPoint.tolerance:
        complain(
            f"note: the fixed-point inversion did not converge (residual {found.residual:.1g}), so {media.name} does "
            "not come back as it was: use --method reversible, or more --steps"
        )
    about = {
        "strength": strength, "method": method, "guidance": how.guidance.scale, "steps": how.steps,
        "from": words, "error": found.error,
    }  # fmt: skip
    names = [words or "as it is", "there and back, through the codec", wish or "edited"]
    if out is None:
        told = [hash_file(media), str(bucket), kind, kind_wish, wish, sorted(about.items()), to_text(how)]
        out = run / "samples" / f"edit-{hash_bytes(repr(told).encode(), 4)}"
    sheet = write_samples(
        np.stack([given, found.again, found.media]), names, np.array([kind, kind, kind_wish]), np.arange(3), out,
        how.rate, about,
    )  # fmt: skip
    say(
        f"round trip without an edit: latents miss by {found.error:.1e} of their deviation; "
        "what 000001 lacks besides is the codec's"
    )
    say(f"edit: {out / '000002'}{'.png' if bucket.frames == 1 else '.mp4'}")
    say(f"together: {sheet}")


def described(run: "Run", caption: str | None, label: str | None) -> tuple[str, int]:
    """A caption ("" for none) and a class (-1 for none). Raises `UserError` for what the run was not trained with."""
    from diorama.cli.sample import wanted

    (words,), kinds = wanted(run, [] if caption is None else [caption], [] if label is None else [label], 1)
    return words, int(kinds[0])
