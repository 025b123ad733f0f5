"""`diorama sample`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diorama.cli.console import complain, say

if TYPE_CHECKING:
    import numpy as np

    from diorama.run import Bucket, Generator, Run


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `diorama train` wrote.")],
    prompt: Annotated[list[str] | None, typer.Option(help="What to draw; may be given several times.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="A class, by number or name; one for all prompts, or one each.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Samples for each prompt or label.")] = 1,
    frames: Annotated[int | None, typer.Option(min=1, help="Length; the longest trained on if left out.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Strength of classifier-free guidance; 1 is none.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="From noise to data.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the noise; the run's own if left out.")] = None,
    ids: Annotated[
        str | None, typer.Option(metavar="0,1,...", help="Which noise each sample begins with; its file's name.")
    ] = None,
    first: Annotated[Path | None, typer.Option(metavar="IMAGE", help="A first frame to go on from.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; a folder in RUN/samples named by the prompt if left out.")
    ] = None,
) -> None:
    """Draw samples from a trained run.

    The same id, prompt and seed give the same sample in any company.

    Example:  [bold]diorama sample runs/demo --prompt "a seven moving left" --count 4 --guidance 3[/bold]
    """
    import numpy as np

    from diorama.core.errors import UserError
    from diorama.core.files import hash_bytes
    from diorama.net import text
    from diorama.run import Generator
    from diorama.run.generate import bucket_for, write_samples

    generator = Generator.load(run)
    config = generator.run
    prompts, labels = wanted(config, prompt or [], label or [], count)
    numbers = np.arange(len(prompts)) if ids is None else numbered(ids, len(prompts))
    bucket = bucket_for(met(generator), frames)
    how = config.sampling
    how = replace(how, guidance=how.guidance if guidance is None else guidance, steps=steps or how.steps)
    if first is not None and bucket.frames == 1:
        raise UserError(f"--first goes on from a picture, and this draws single pictures: the run {run} or --frames 1")
    if first is not None and config.denoiser.objective.independent == 0:
        complain("note: this run never met a clean first frame in training (denoiser.objective.independent is 0)")
    if any(prompts) and generator.folder.tokenizer().get_vocab_size() <= text.SMALLEST:
        complain("note: this run met no captions in training, so a prompt means nothing to it")
    given = None if first is None else np.repeat(picture(first, bucket)[None], len(prompts), axis=0)
    media = generator.draw(
        prompts, labels, ids=numbers, bucket=bucket, sampling=how, first=given, seed=seed, quiet=False
    )
    about = {"guidance": how.guidance, "steps": how.steps, "seed": config.seed if seed is None else seed}
    names = [p or _class_name(config, i) for p, i in zip(prompts, labels, strict=True)]
    if out is None:
        settings = [names, labels.tolist(), numbers.tolist(), str(bucket), sorted(about.items()), str(first)]
        out = run / "samples" / f"{_slug(names[0])}-{hash_bytes(repr(settings).encode(), 3)}"
    sheet = write_samples(media, names, labels, numbers, out, config.sampling.rate, about)
    say(f"{len(media)} sample{'s' * (len(media) > 1)} in {out}")
    say(f"together: {sheet}")


def met(generator: "Generator") -> "Run":
    """The run with only those buckets of which it met clips in training; a release without `latents/` says nothing."""
    run, latents = generator.run, generator.folder.path / "latents"
    buckets = tuple(b for b in run.denoiser.buckets if any(latents.glob(f"*.{b}.*")))
    return replace(run, denoiser=replace(run.denoiser, buckets=buckets)) if buckets else run


def wanted(run: "Run", prompts: list[str], labels: list[str], count: int) -> tuple[list[str], "np.ndarray"]:
    """A prompt ("" for none) and a class (-1 for none) of every sample. Raises `UserError`."""
    import numpy as np

    from diorama.core.errors import UserError
    from diorama.net import LabelConfig, TextConfig

    kinds = run.denoiser.denoiser.conditions.values()
    classes = next((kind.classes for kind in kinds if isinstance(kind, LabelConfig)), None)
    if prompts and not any(isinstance(kind, TextConfig) for kind in kinds):
        raise UserError(f"the run '{run.name}' was trained without text: leave out --prompt, or use --label")
    if labels and classes is None:
        raise UserError(f"the run '{run.name}' was trained without labels: leave out --label, or use --prompt")
    if prompts and len(labels) > 1 and len(labels) != len(prompts):
        raise UserError(f"{len(prompts)} prompts and {len(labels)} labels do not pair: give one label, or one a prompt")
    chosen = [_class_number(run, label, classes or 0) for label in labels]
    length = max(len(prompts), len(chosen), 1)
    prompts = prompts or [""] * length
    chosen = chosen * (length // len(chosen)) if chosen else [-1] * length
    return [p for p in prompts for _ in range(count)], np.repeat(np.array(chosen, np.int32), count)


def _class_number(run: "Run", label: str, classes: int) -> int:
    from diorama.core.errors import UserError

    names = run.evaluation.names
    number = names.index(label) if label in names else int(label) if label.isdecimal() else -1
    if not 0 <= number < classes:
        known = f", or one of {', '.join(names)}" if names else ""
        raise UserError(f"there is no class '{label}': give a number from 0 to {classes - 1}{known}")
    return number


def _class_name(run: "Run", number: int) -> str:
    names = run.evaluation.names
    return names[number] if 0 <= number < len(names) else f"class {number}" if number >= 0 else ""


def numbered(ids: str, count: int) -> "np.ndarray":
    """The ids of `count` samples, from "3,1,4". Raises `UserError`."""
    import numpy as np

    from diorama.core.errors import UserError

    parts = [part.strip() for part in ids.split(",")]
    if not all(part.isdecimal() and int(part) < 2**32 for part in parts):
        raise UserError(f"--ids {ids} does not fit: write numbers below 4294967296 with commas between, such as 0,1")
    if len(parts) != count or len(set(map(int, parts))) != count:
        raise UserError(f"--ids {ids} does not fit: {count} samples are asked for and each takes an id of its own")
    return np.array([int(part) for part in parts], np.uint32)


def picture(path: Path, bucket: "Bucket") -> "np.ndarray":
    """The first frame of a file, scaled to cover the bucket's size and cut; uint8 (h, w, 3). Raises `UserError`."""
    from diorama.core.errors import UserError
    from diorama.media import BadMedia, center_crop, read, resize

    try:
        frames = read(path).frames[:1]
    except BadMedia as bad:
        raise UserError(f"{path} cannot be used as a first frame: {bad}") from None
    return center_crop(resize(frames, bucket.height, bucket.width), bucket.height, bucket.width)[0]


def _slug(text: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return "-".join(words)[:48].rstrip("-") or "samples"
