"""What `benchmarks.video_ways` says of the ways of making video: figures, tables and pictures."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from diorama.codec import Codec, decode, encode
from diorama.data import Catalogue
from diorama.evaluate import Judge, Moments, frechet_distance, memorisation_score, multi_hot, quantise, right
from diorama.media import contact_sheet
from diorama.run import Run
from diorama.run.evaluate import Clips, examples_and_judge
from diorama.run.examples import some

matplotlib.use("agg")
import matplotlib.pyplot as plt


@dataclass(frozen=True)
class Truth:
    """The judge, and what it is held against: training clips' moments, and how much moves in them."""

    judge: Judge
    train: Clips
    held: Clips
    moments: Moments
    moves: float

    @staticmethod
    def of(run: Run, catalogue: Catalogue) -> "Truth":
        """Of the run's first bucket; trains the judge."""
        found, judge = examples_and_judge(run, catalogue)
        _, train, held = found[0]
        assert judge is not None
        return Truth(judge, train, held, Moments.of(judge.features(train.media)), moves(train.media))

    def judged(self, media: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Fréchet distance to the training clips, share seen as asked, motion over that of training clips."""
        wanted = multi_hot([[int(label)] for label in labels], len(self.judge.names))
        features = self.judge.features(media)
        return {
            "distance": frechet_distance(Moments.of(features), self.moments),
            "as_asked": float(right(self.judge.logits(media), wanted).mean()),
            "motion": moves(media) / self.moves,
        }

    def memorised(self, media: np.ndarray) -> float:
        """The share of clips that are nearer to a training clip than held-back clips are."""
        return memorisation_score(media, self.train.media, self.held.media, 0)[0].value

    def real(self, codec: Codec, n: int) -> dict[str, dict[str, float]]:
        """The rows of real clips, n of each."""
        train, held = some(len(self.train.media), n, 1), some(len(self.held.media), n, 1)
        parts = [self.train.media[train[i : i + 16]] / np.float32(127.5) - 1 for i in range(0, len(train), 16)]
        again = np.concatenate([quantise(decode(codec, encode(codec, part)))[:, : part.shape[1]] for part in parts])
        return {
            "training clips": self.judged(self.train.media[train], self.train.labels[train]),
            "training clips through the codec": self.judged(again, self.train.labels[train]),
            "held-back person": self.judged(self.held.media[held], self.held.labels[held]),
        }


def moves(media: np.ndarray) -> float:
    """Mean absolute difference of neighbouring frames, in grey levels."""
    return float(np.mean([np.abs(np.diff(clip.astype(np.int16), axis=0)).mean() for clip in media]))


def row_of(title: str, truth: Truth, labels: np.ndarray, kept: Any, spent: dict[str, Any]) -> dict[str, Any]:
    """All that is told of a way."""
    found, short = json.loads(str(kept["found"])), kept["short"]
    row = {"title": title, "parameters": found.pop("parameters"), "training": spent, "sampling": found}
    row |= truth.judged(short, labels) | {"memorised": truth.memorised(short), "drift": []}
    if "long" in kept:
        size, long = short.shape[1], kept["long"]
        for start in range(0, long.shape[1] - size + 1, size - 1):
            row["drift"].append({"first": start} | truth.judged(long[:, start : start + size], labels))
    return row


MEASURES = {"distance": "Fréchet distance", "as_asked": "action as asked", "motion": "motion (training clips: 1)"}


def plot(rows: dict[str, dict[str, Any]], real: dict[str, dict[str, float]], path: Path) -> None:
    """A panel a measure, over the first frame of the window; a way that makes no long videos is a point."""
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(13, 3.6), layout="constrained")
    for axis, (key, title) in zip(axes, MEASURES.items(), strict=True):
        for row in rows.values():
            drift = row["drift"] or [row | {"first": 0}]
            axis.plot([d["first"] for d in drift], [d[key] for d in drift], "o-", label=row["title"])
        for style, name in zip(("--", ":"), list(real)[:2], strict=True):
            axis.axhline(real[name][key], color="grey", linestyle=style, linewidth=1, label=name)
        axis.set(xlabel="first frame of the window", title=title)
        axis.set_ylim(bottom=0)
    axes[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=110)


def tables(rows: dict[str, dict[str, Any]], real: dict[str, dict[str, float]], about: dict[str, Any]) -> str:
    """The tables, as Markdown."""
    codec = about["codec"]
    lines = [
        f"{about['n']} clips of {about['length']} frames a way; classifier right on {about['judge']:.0%} of held-back "
        f"clips. Codec: {codec['parameters']:,} parameters, {codec['cpu']:.0f} s of processor time "
        f"({codec['clock']:.0f} s by the clock), {codec['peak_mb']:.0f} MB, in no row. Distances: lower is better.",
        "",
        "| way | parameters | training s (clock) | MB | sampling s a clip (clock) | MB | Fréchet distance | as asked "
        "| motion | memorised |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows.values():
        spent, short = row["training"], row["sampling"]["short"]
        lines.append(
            f"| {row['title']} | {row['parameters']:,} | {spent['cpu']:.0f} ({spent['clock']:.0f}) "
            f"| {spent['peak_mb']:.0f} | {short['cpu']:.2f} ({short['clock']:.2f}) | {short['peak_mb']:.0f} "
            f"| {row['distance']:.3f} | {row['as_asked']:.1%} | {row['motion']:.2f} | {row['memorised']:.1%} |"
        )
    for name, found in real.items():
        measured = f"{found['distance']:.3f} | {found['as_asked']:.1%} | {found['motion']:.2f}"
        lines.append(f"| {name} | | | | | | {measured} | |")
    starts = [d["first"] for d in next((row["drift"] for row in rows.values() if row["drift"]), [])]
    lines += [
        "",
        f"Videos of {about['frames']} frames: distance, action as asked and motion, by the window's first frame.",
        "",
        f"| way | sampling s a video (clock) | {' | '.join(map(str, starts))} |",
        "|---|---|" + "---|" * len(starts),
    ]
    for row in rows.values():
        cells = [f"{d['distance']:.3f}, {d['as_asked']:.0%}, {d['motion']:.2f}" for d in row["drift"]]
        long = row["sampling"].get("long")
        took = f"{long['cpu']:.2f} ({long['clock']:.2f})" if long else "not possible: it starts from a lower resolution"
        lines.append(f"| {row['title']} | {took} | {' | '.join(cells or [''] * len(starts))} |")
    return "\n".join(lines) + "\n"


def sheet(drawn: dict[str, np.ndarray], captions: list[str], labels: np.ndarray, path: Path) -> None:
    """A row for each way, a column for each action."""
    columns = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    shown = [(media[i], f"{name}: {captions[i]}") for name, media in drawn.items() for i in columns]
    contact_sheet(
        [clip for clip, _ in shown], path, columns=len(columns), captions=[said for _, said in shown], frames=5
    )
