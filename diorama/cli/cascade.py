"""`diorama sample` of a cascade: through all its stages."""

from pathlib import Path
from typing import Any

from diorama.cli.console import complain, say


def sample(
    run: Path, prompts: list[str], labels: list[str], count: int, frames: int | None, guidance: float | None,
    augmentation: float | None, steps: int | None, seed: int | None, ids: str | None, settings: list[str],
    out: Path | None,
) -> None:  # fmt: skip
    """Draw and write; see `diorama.cli.sample.sample`. Strength, steps and noise level are those of every stage."""
    import numpy as np

    from diorama.cli.sample import class_name, numbered, place, wanted
    from diorama.core import UserError, override
    from diorama.core.config import flatten
    from diorama.net import text
    from diorama.run.cascade import Cascaded
    from diorama.run.generate import bucket_for, write_samples

    for setting in settings:
        if setting.partition("=")[0].split(".")[2:3] != ["sampling"]:
            raise UserError(f"{setting}: of a cascade only stages.N.sampling.* can change from sample to sample")
    drawer = Cascaded.load(run)
    said = {"guidance.scale": guidance, "steps": steps}
    every = [
        f"stages.{i}.sampling.{path}={value}"
        for i in range(len(drawer.cascade.stages)) for path, value in said.items() if value is not None
    ]  # fmt: skip
    if augmentation is not None:
        every += [f"stages.{i}.sampling.augmentation={augmentation}" for i in range(1, len(drawer.cascade.stages))]
    cascade = override(drawer.cascade, [*every, *settings])
    ways = [stage.sampling for stage in cascade.stages]
    base, last = drawer.generators[0], cascade.stages[-1]
    asked, classes = wanted(base.run, prompts, labels, count)
    numbers = np.arange(len(asked)) if ids is None else numbered(ids, len(asked))
    if any(asked) and base.folder.tokenizer().get_vocab_size() <= text.SMALLEST:
        complain("note: this cascade met no captions in training, so a prompt means nothing to it")
    bucket = bucket_for(last, frames)
    media = drawer.draw(asked, classes, ids=numbers, bucket=bucket, sampling=ways, seed=seed, quiet=False)
    names = [p or class_name(base.run, i) for p, i in zip(asked, classes, strict=True)]
    about: dict[str, Any] = {"seed": base.run.seed if seed is None else seed}
    about |= {stage.name: flatten(stage.sampling) for stage in cascade.stages}
    if out is None:
        out = place(run, names, [classes.tolist(), numbers.tolist(), str(bucket), sorted(about.items())])
    sheet = write_samples(media, names, classes, numbers, out, last.sampling.rate, about)
    say(f"{len(media)} sample{'s' * (len(media) > 1)} in {out}")
    say(f"together: {sheet}")
