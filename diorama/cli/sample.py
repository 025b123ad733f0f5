"""`diorama sample`."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diorama.cli import cascade
from diorama.cli.console import complain, say

if TYPE_CHECKING:
    import numpy as np

    from diorama.run import Bucket, Generator, Run, Sampling
    from diorama.run.generate import Known


def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `diorama train` wrote.")],
    prompt: Annotated[list[str] | None, typer.Option(help="What to draw; may be given several times.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="A class, by number or name; one for all prompts, or one each.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Samples for each prompt or label; 1, or as many as --ids, if left out.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Length; the longest trained on if left out. Longer ones go on from it.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="In place of frames: the length of a long video.")] = None,
    then: Annotated[
        list[str] | None,
        typer.Option(metavar="PROMPT", help="What a long video shows after --prompt; each an equal part of it."),
    ] = None,
    guidance: Annotated[float | None, typer.Option(help="Strength of the run's guidance; 1 is none.")] = None,
    weak: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A worse model, which guidance leads away from (autoguidance).")
    ] = None,
    augmentation: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of a cascade: noise level of what a stage gets from the one before."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="From noise to data; as tuned, if they were.")] = None,
    evaluations: Annotated[
        int | None, typer.Option(min=1, help="In place of steps: how often the model may be asked; as `tune` found.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Of the noise; the run's own if left out.")
    ] = None,
    ids: Annotated[
        str | None, typer.Option(metavar="0,1,...", help="Which noise each sample begins with; its file's name.")
    ] = None,
    first: Annotated[Path | None, typer.Option(metavar="IMAGE", help="A first frame to go on from.")] = None,
    inpaint: Annotated[
        Path | None, typer.Option(metavar="MASK", help="A picture, or video, that is white where to draw anew.")
    ] = None,
    of: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The picture or video that --inpaint changes.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="How to sample this once, as sampling.guidance=APG."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write; a folder in RUN/samples named by the prompt if left out.")
    ] = None,
) -> None:
    """Draw samples from a trained run, or through all stages of a cascade.

    The same id, prompt and seed give the same sample in any company. Videos longer than those of the training are made
    piece by piece, as sampling.rollout says, and written as they are made.

    Example:  [bold]diorama sample runs/demo --prompt "a seven moving left" --count 4 --guidance 3[/bold]
    """
    import numpy as np

    from diorama.core.config import flatten, to_text
    from diorama.core.errors import UserError
    from diorama.net import text
    from diorama.run import Generator
    from diorama.run.against import Null
    from diorama.run.cascade import CascadeFolder
    from diorama.run.generate import bucket_for, write_samples
    from diorama.run.roll import prompts_of, roll, write_rolls

    if count is None:
        alone = max(len(prompt or []), len(label or [])) <= 1
        count = len(ids.split(",")) if ids is not None and alone else 1
    if CascadeFolder.holds(run):
        one = {
            "--weak": weak, "--evaluations": evaluations, "--first": first, "--inpaint": inpaint, "--of": of,
            "--seconds": seconds, "--then": then,
        }  # fmt: skip
        for option, value in one.items():
            if value is not None:
                raise UserError(f"{run} is a cascade, and {option} is for one run: leave it out")
        cascade.sample(run, prompt or [], label or [], count, frames, guidance, augmentation, steps, seed, ids,
                       settings or [], out)  # fmt: skip
        return
    generator = Generator.load(run)
    config = generator.run
    if config.denoiser.denoiser.low is not None:
        raise UserError(f"{run} starts from the stage before it: name the folder of the whole cascade")
    if augmentation is not None:
        raise UserError(f"--augmentation is for a cascade, and {run} is one run: leave it out")
    prompts, labels = wanted(config, prompt or [], label or [], count)
    numbers = np.arange(len(prompts)) if ids is None else numbered(ids, len(prompts))
    how, trained = asked(config, settings or [], guidance, steps, weak), met(generator)
    length = lasting(frames, seconds, how.rate)
    longer = seconds is not None or then is not None or (length or 0) > bucket_for(trained).frames
    bucket = bucket_for(trained, None if longer else length)
    if longer and inpaint is not None:
        raise UserError(f"--inpaint changes clips of {bucket.frames} frames, and this asks for more: leave one out")
    if then and not any(prompts):
        raise UserError("--then is what a video shows after --prompt: give that too")
    how = frugal(generator, bucket, how, steps, evaluations, settings or [])
    if first is not None and bucket.frames == 1:
        raise UserError(f"--first goes on from a picture, and this draws single pictures: the run {run} or --frames 1")
    if first is not None and config.denoiser.objective.independent == 0:
        complain("note: this run never met a clean first frame in training (denoiser.objective.independent is 0)")
    if any(prompts) and generator.folder.tokenizer().get_vocab_size() <= text.SMALLEST:
        complain("note: this run met no captions in training, so a prompt means nothing to it")
    if (inpaint is None) != (of is None):
        raise UserError("--inpaint MASK and --of FILE go together: the mask, and what it is a mask of")
    if not config.denoiser.denoiser.conditions and guidance is not None and isinstance(how.against, Null):
        complain("note: this run takes no conditions, so --guidance has nothing to lead away from: give --weak")
    known = None if inpaint is None or of is None else kept(inpaint, of, bucket)
    given = None if first is None else np.repeat(picture(first, bucket)[None], len(prompts), axis=0)
    rule = {"guidance": how.guidance.scale, "rule": type(how.guidance).__name__}
    about = {**rule, "steps": how.steps, "seed": config.seed if seed is None else seed}
    if longer:
        about |= {"frames": length or bucket.frames, "then": then or []}
    names = [p or class_name(config, i) for p, i in zip(prompts, labels, strict=True)]
    if out is None:
        files = [str(path) for path in (first, inpaint, of)]
        wish = [names, labels.tolist(), numbers.tolist(), str(bucket), sorted(about.items()), to_text(how), files]
        out = place(run, names, wish[1:])
    given_files = {"first": first, "inpaint": inpaint, "of": of}
    about |= {name: str(path) for name, path in given_files.items() if path is not None}
    resolved = generator.folder.fitted(replace(config, sampling=how)).sampling
    about |= {"sampling": flatten(resolved)}
    try:
        if longer:
            many = length or bucket.frames
            videos = [
                roll(generator, [prompt, *(then or [])], label, number=number, bucket=bucket, frames=many, sampling=how,
                     first=None if given is None else given[0], seed=seed)
                for prompt, label, number in zip(prompts, labels, numbers, strict=True)
            ]  # fmt: skip
            said = [
                prompts_of(generator, [name, *(then or [])], bucket=bucket, frames=many, sampling=how) for name in names
            ]
            sheet = write_rolls(videos, many, said, labels, numbers, out, how.rate, about, quiet=False)
        else:
            media = generator.draw(
                prompts, labels, ids=numbers, bucket=bucket, sampling=how, first=given, known=known, seed=seed,
                quiet=False,
            )  # fmt: skip
            sheet = write_samples(media, names, labels, numbers, out, how.rate, about)
    except KeyboardInterrupt:
        done = "videos that were whole are" if longer else "nothing was written: samples are written when all are drawn"
        complain(f"stopped, {f'{done} in {out}' if longer else done}")
        raise
    say(f"{len(prompts)} sample{'s' * (len(prompts) > 1)} in {out}")
    say(f"together: {sheet}")


def lasting(frames: int | None, seconds: float | None, rate: float) -> int | None:
    """How many frames are asked for, if it is said. Raises `UserError`."""
    from diorama.core.errors import UserError

    if seconds is None:
        return frames
    if frames is not None or not 0 < seconds < math.inf:
        raise UserError("--seconds is a length above 0, and takes the place of --frames: give one of them")
    return max(1, round(seconds * rate))


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


def class_name(run: "Run", number: int) -> str:
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


def asked(run: "Run", settings: list[str], guidance: float | None, steps: int | None, weak: Path | None) -> "Sampling":
    """The run's way of sampling, with what is asked for this once. Raises `UserError`."""
    from diorama.core import UserError, override
    from diorama.run.against import Weaker

    for setting in settings:
        if not setting.startswith("sampling."):
            raise UserError(f"{setting}: only sampling.* can change from one sample to the next")
    said = {
        "--guidance": (guidance, "sampling.guidance.scale="), "--steps": (steps, "sampling.steps="),
        "--weak": (weak, "sampling.against"),
    }  # fmt: skip
    for option, (value, path) in said.items():
        twice = [setting for setting in settings if value is not None and setting.startswith(path)]
        if twice:
            raise UserError(f"{option} and --set {twice[0]} say the same thing: give one of them")
    if guidance is not None and not math.isfinite(guidance):
        raise UserError(f"--guidance {guidance} is no strength: give a number, 1 for none")
    how = override(run, settings).sampling
    rule = how.guidance if guidance is None else how.guidance.scaled(guidance)
    against = how.against if weak is None else Weaker(str(weak))
    return replace(how, guidance=rule, against=against, steps=steps or how.steps)


def frugal(
    generator: "Generator", bucket: "Bucket", how: "Sampling", steps: int | None, evaluations: int | None,
    settings: list[str],
) -> "Sampling":  # fmt: skip
    """`how` in so many steps or evaluations, by what `diorama tune` found for them; as it is where `settings` say the
    way from noise to data. Raises `UserError`."""
    from diorama.core.errors import UserError
    from diorama.run.tune import budgets, stale, tuned
    from diorama.sample.tune import asks, steps_within

    if steps is not None and evaluations is not None:
        raise UserError("--steps and --evaluations both say how long the way is: give one of them")
    for setting in settings:
        if evaluations is not None and setting.startswith(("sampling.steps=", "sampling.restart")):
            raise UserError(f"--evaluations says how long the way is, and so does --set {setting}: give one of them")
    ways = tuple(f"sampling.{name}" for name in ("solver", "grid", "steps", "restart"))
    way = any(setting.startswith(ways) for setting in settings)
    found = None if way or steps == evaluations else tuned(generator.folder, bucket, how, evaluations, steps)
    shape = generator.codec.latent_shape(bucket.frames, bucket.height, bucket.width)
    process = generator.denoiser.process.of(shape)
    if found:
        say(f"as tuned: {found.solver}, {found.steps} fitted steps (not so: --set sampling.steps={found.steps})")
        known = budgets(generator.folder, bucket, how)
        if evaluations is not None and evaluations not in known:
            say(
                f"this run was tuned for {' and '.join(map(str, known))} evaluations and not for {evaluations}: the "
                f"best of those within {evaluations} is taken, which asks {asks(found.solver, process, found.steps)} "
                f"times; `diorama tune --evaluations {evaluations}` finds one of its own"
            )
        return found
    if steps == evaluations:
        return how
    if not way and stale(generator.folder, bucket, how):
        complain("note: this run was tuned for other weights or another guidance, which is not used: tune it again")
    if evaluations is None:
        return how
    most = steps_within(how.solver, process, evaluations)
    if not most:
        raise UserError(f"{how.solver} asks the model more often than {evaluations} times in a step: give more")
    say(
        f"untuned: {how.solver}, {most} steps on {how.grid}{', without restarts' if how.restart else ''}; "
        f"`diorama tune --evaluations {evaluations}` finds what suits this run"
    )
    return replace(how, steps=most, restart=None)


def kept(mask: Path, media: Path, bucket: "Bucket") -> "Known":
    """What of a file is kept, and what `mask` leaves white to be drawn anew, brought to the bucket's shape.

    Raises `UserError` where a file cannot be read, or has fewer frames.
    """
    from diorama.core.errors import UserError
    from diorama.run.generate import Known

    frames, white = (shaped(path, bucket) for path in (media, mask))
    if len(frames) < bucket.frames or len(white) not in (1, len(frames)):
        short = len(frames) < bucket.frames
        mend = "add --frames 1" if short and len(frames) == 1 else "give a longer file, or fewer --frames"
        mend = mend if short else "give a mask of one frame, or of as many"
        said = f"{media} has {len(frames)} frames, {mask} has {len(white)}, and {bucket.frames} are drawn"
        raise UserError(f"{said}: {mend}")
    return Known(frames, (white.mean(-1) < 128).repeat(len(frames) // len(white), 0))


def shaped(path: Path, bucket: "Bucket") -> "np.ndarray":
    """The first frames of a file, scaled to cover the bucket's size and cut; uint8 (t, h, w, 3). Raises `UserError`."""
    from diorama.core.errors import UserError
    from diorama.media import BadMedia, center_crop, read, resize

    try:
        frames = read(path).frames[: bucket.frames]
    except BadMedia as bad:
        raise UserError(f"{path} cannot be used: {bad}") from None
    return center_crop(resize(frames, bucket.height, bucket.width), bucket.height, bucket.width)


def picture(path: Path, bucket: "Bucket") -> "np.ndarray":
    """The first frame of a file, scaled to cover the bucket's size and cut; uint8 (h, w, 3). Raises `UserError`."""
    return shaped(path, replace(bucket, frames=1))[0]


def place(run: Path, names: list[str], wish: list[object]) -> Path:
    """The folder of samples called `names`, another one for whatever else is wished."""
    from diorama.core.files import hash_bytes

    return run / "samples" / f"{_slug(names[0])}-{hash_bytes(repr([names, *wish]).encode(), 3)}"


def _slug(text: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return "-".join(words)[:48].rstrip("-") or "samples"
