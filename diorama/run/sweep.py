"""Quality against diversity: a run drawn at several guidance scales, each measured as `diorama evaluate` measures.

Guidance makes samples follow their prompts and lose their variety and colours. How much of each is measured here: every
scale draws the same noise for the same held-back prompts, so that all that differs is the scale.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diorama.core.errors import UserError
from diorama.core.files import write_aside, write_text
from diorama.evaluate import Features, Judge, generation_scores, label_score, multi_hot, pixels
from diorama.evaluate.score import figure
from diorama.run.against import Null
from diorama.run.evaluate import Clips, examples_and_judge, fingerprint
from diorama.run.folder import Folder
from diorama.run.generate import Generator
from diorama.run.resolution import low_of
from diorama.run.run import Bucket

SCALES = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
VARIED, TIMES = 8, 4  # prompts drawn more than once for diversity, and how often
ALIKE = 16  # real clips of one prompt, at most, whose diversity is compared
SHOWN = 6  # prompts on the page


class Measure(NamedTuple):
    """One figure at every scale, and what real clips get; nan or None where that cannot be measured."""

    name: str
    values: tuple[float, ...]
    real: float | None
    better: str  # "higher", "lower", or "real": as real clips have it


@dataclass(frozen=True)
class Sweep:
    """What was measured of one bucket, and some of the samples, (prompts, scales, t, h, w, c) uint8."""

    bucket: str
    rule: str
    scales: tuple[float, ...]
    n: int  # samples a scale
    varied: int  # prompts that were drawn `TIMES` times for diversity
    seed: int
    features: str
    measures: tuple[Measure, ...]
    prompts: tuple[str, ...]
    shown: np.ndarray

    def about(self) -> dict[str, Any]:
        """All but the samples, as JSON has it."""
        return {
            "bucket": self.bucket, "rule": self.rule, "scales": self.scales, "n": self.n, "varied": self.varied,
            "times": TIMES, "seed": self.seed, "features": self.features,
            "measures": [measure._asdict() for measure in self.measures],
        }  # fmt: skip

    def table(self) -> str:
        """Plain text: a line a scale, and one for real clips."""
        signs = {"higher": "↑", "lower": "↓", "real": "→ real"}
        head = ["guidance", *(f"{m.name} {signs[m.better]}" for m in self.measures)]
        rows = [[f"{s:g}", *(figure(m.values[i]) for m in self.measures)] for i, s in enumerate(self.scales)]
        rows.append(["real", *(figure(m.real) for m in self.measures)])
        widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in (head, *rows)]
        under = (
            f"{self.bucket}, {self.rule}: n = {self.n} samples a scale, diversity of {self.varied} prompts drawn "
            f"{TIMES} times each; seed {self.seed}, seen by {self.features}"
        )
        return "\n".join([*lines, under])


def sweep_run(folder: Folder, scales: Sequence[float] = SCALES) -> list[Sweep]:
    """Every bucket with held-back clips at every guidance scale; the figures are kept in `evaluation/guidance.json`.

    Samples are kept scale by scale in `evaluation/`, so that a sweep which was cut off goes on. Raises `UserError`
    where no clip is held back, or there is nothing to lead away from.
    """
    run = folder.run()
    if not run.denoiser.denoiser.conditions and isinstance(run.sampling.against, Null):
        raise UserError(f"{folder.path} takes no conditions to lead away from none: set sampling.against")
    generator, key = Generator.load(folder.path), fingerprint(folder)
    examples, judge = examples_and_judge(run, folder.catalogue())
    found = [_sweep(generator, bucket, train, test, judge, scales, key) for bucket, train, test in examples]
    text = json.dumps([each.about() for each in found], indent=1).replace("NaN", "null")
    write_text(folder.path / "evaluation" / "guidance.json", text + "\n")
    return found


def _sweep(
    generator: Generator, bucket: Bucket, train: Clips, test: Clips, judge: Judge | None, scales: Sequence[float],
    key: str,
) -> Sweep:  # fmt: skip
    run, n = generator.run, min(generator.run.evaluation.samples, len(test.media))
    asked = [_asked(test, i) for i in range(n)]
    varied = sorted({prompt: i for i, prompt in reversed(list(enumerate(asked)))}.values())[:VARIED]
    rows = np.array([*range(n), *np.repeat(varied, TIMES - 1)], int)
    times = [[i, *range(n + k * (TIMES - 1), n + (k + 1) * (TIMES - 1))] for k, i in enumerate(varied)]
    alike = [[j for j in range(len(train.media)) if _asked(train, j) == asked[i]][:ALIKE] for i in varied]
    features = _remembered(judge.features if judge else pixels(), train.media, test.media)
    real = {"diversity": _spread(features(train.media), alike), **colours(test.media)}
    labelled = [i for i, wanted in enumerate(test.wanted) if wanted]
    ours = [i for i in labelled if i < n]

    def measured(media: np.ndarray) -> list[tuple[str, float, float | None, str]]:
        scores = generation_scores(media[:n], train.media, test.media, features, run.seed)
        if judge and ours:
            hot = multi_hot(test.wanted, len(judge.names))
            scores.append(label_score(media[ours], hot[ours], test.media[labelled], hot[labelled], judge, run.seed))
        also = {"diversity": _spread(features(media), times), **colours(media[:n])}
        return [(s.name, s.value, s.floor, s.better) for s in scores] + [
            (name, value, real[name], "real") for name, value in also.items()
        ]

    drawn = [_drawn(generator, bucket, test, rows, scale, key) for scale in scales]
    found = [measured(media) for media in drawn]
    measures = [Measure(row[0][0], tuple(r[1] for r in row), row[0][2], row[0][3]) for row in zip(*found, strict=True)]
    how, shown = run.sampling, varied[:SHOWN]
    return Sweep(
        str(bucket), f"{type(how.guidance).__name__} against {type(how.against).__name__}", tuple(scales), n,
        len(varied), run.seed, features.name, tuple(measures),
        tuple(test.captions[i] or f"class {test.labels[i]}" for i in shown), np.stack([m[shown] for m in drawn], 1),
    )  # fmt: skip


def colours(media: np.ndarray) -> dict[str, float]:
    """How strong the colours of uint8 clips (n, t, h, w, c) are, which too much guidance saturates.

    clipped: the share of values within 1 % of black or white; contrast: the standard deviation of a clip's values;
    colourfulness: the mean difference of a pixel's strongest and weakest channel; both over 255.
    """
    return {
        "clipped": float(((media <= 2) | (media >= 253)).mean()),
        "contrast": float(media.std((1, 2, 3, 4)).mean() / 255),
        "colourfulness": float((media.max(-1) - media.min(-1)).mean() / 255),
    }


def _asked(clips: Clips, i: int) -> tuple[Any, ...]:
    """What a clip's prompt asks for: its labels, or where it has none its words."""
    return tuple(clips.wanted[i]) or (clips.captions[i],)


def _spread(features: np.ndarray, groups: list[list[int]]) -> float:
    """The mean distance of two of a group, over the groups that have two; nan if none has."""
    pairs = [[np.linalg.norm(features[i] - features[j]) for i, j in combinations(group, 2)] for group in groups]
    means = [np.mean(distances) for distances in pairs if distances]
    return float(np.mean(means)) if means else float("nan")


def _remembered(features: Features, *sets: np.ndarray) -> Features:
    """`features` that looks at each of `sets` once only."""
    known = {id(media): features(media) for media in sets}
    return Features(features.name, lambda clips: known[id(clips)] if id(clips) in known else features(clips))


def _drawn(generator: Generator, bucket: Bucket, test: Clips, rows: np.ndarray, scale: float, key: str) -> np.ndarray:
    """Samples for the prompts `rows` at one scale; each row's id is its place."""
    number = generator.run.denoiser.buckets.index(bucket)
    path: Path = generator.folder.path / "evaluation" / f"guidance-{number}.{bucket}-{scale}.npz"
    if path.exists():
        with np.load(path) as kept:
            if str(kept["key"]) == key:
                return kept["media"]
    media = generator.draw(
        [test.captions[i] for i in rows], test.labels[rows], ids=np.arange(len(rows)), bucket=bucket,
        low=low_of(generator.run, test.media[rows]), scales=np.full(len(rows), scale, np.float32), quiet=False,
    )  # fmt: skip
    with write_aside(path) as aside:
        np.savez_compressed(aside, media=media, key=np.array(key))
    return media
