"""Does curation pay? One small model, trained on polluted, on curated and on clean pictures, and what each rule buys.

Install:   python -m pip install -e .
Command:   nice python -m benchmarks.pays --images IMAGES --out pays      (the folder of cifar10_train-*.parquet)
           with --examples 0 nothing is trained, and the sets themselves are measured
Hardware:  two CPU cores; a model takes about 5 CPU-minutes, a set 10 CPU-seconds. A run that was killed goes on.

CIFAR-10 (A. Krizhevsky 2009). For every seed 4,000 pictures, 400 of each class, are the clean set; `planted.pollute`
makes the raw set of it. They are curated at 32 x 32 by `curate_stills` with one change: `technical.sharpness` cannot be
judged there, so pictures count as blurred that lack noise; the threshold was chosen on another part of the data. To
its rules come a check of labels, by classifiers that have not seen the picture, and weights that make all classes
equally common in training. Then the same network is trained for as many examples on each set, in pixels at 16 x 16.
Samples, as many of each class, are compared with 10,000 other clean pictures by a classifier that was trained on others
again.

Beside the Fréchet distance stand direct measures of the samples: how many a classifier of planted flaws takes for
flawed, and how many lie nearer to one of the 20 pictures that were copied many times than to any other of the clean
set. A seed draws the pictures and what is done to them; the network starts from the same weights.
The last line is JSON.
"""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.planted.copies import decode
from benchmarks.planted.pollute import DAMAGE, Sample, pollute
from diorama.codec import PixelCodecConfig
from diorama.core.files import write_text
from diorama.data import Catalogue, ClipSource, Curation, Drop, Where, curate
from diorama.data.balance import Balance, InverseFrequency
from diorama.data.rules import VERDICT, Rule
from diorama.diffusion import DenoiserConfig
from diorama.evaluate import Judge, generation_scores, label_score, multi_hot, train_judge
from diorama.evaluate.neighbours import nearest
from diorama.net import LabelConfig, UNetConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Generator, Run, Sampling, train_run
from diorama.sample import ClassifierFree, Euler
from diorama.train import Cosine, Muon, Train
from recipes import curate_stills

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 16  # pixels at which pictures are trained on and judged
A_CLASS = 400  # clean pictures of each class, a seed
SAMPLES = 1000  # drawn of each model, and real ones in their place for the floor
FOLDS = 3  # of the classifier that checks labels
UNLIKELY = 2  # classes: a label is doubted that is among the least likely so many
TUNING = 1000  # the seed of the pool on which thresholds were chosen; it is in no result
GROUPS = {
    "duplicates": ("near-duplicate",),
    "blur": ("blurred",),
    "borders": ("letterboxed",),
    "exposure and grey": ("flat", "dark", "overexposed", "grey"),
    "blocks": ("blocky",),
}
SEEN = ("sound", *DAMAGE)  # what may be seen of a single picture
KINDS = ("sound", "copy", *DAMAGE, "mislabelled")
ALL = ("raw", "clean", "curated")
BALANCE, LABELS = "without balance", "without label check"
ABLATIONS = (BALANCE, LABELS, *(f"without {group}" for group in GROUPS))


@dataclass(frozen=True)
class Doubted:
    """Leaves out clips whose label a classifier doubted that had not seen them."""

    locations: tuple[str, ...]
    name: str = "doubted label"
    measures: tuple[str, ...] = ()

    def verdicts(self, con: duckdb.DuckDBPyConnection) -> pa.Table:
        """As `Rule.verdicts`."""
        rows = con.execute(
            "select id from left_over where location in (select unnest(?)) and not chosen", [list(self.locations)]
        ).fetchall()
        row = {"partner": None, "metric": None, "value": None, "threshold": None}
        return pa.Table.from_pylist([{"id": i} | row for (i,) in rows], VERDICT)


def policy(condition: str, doubted: Sequence[Rule]) -> Curation:
    """`curate_stills` for 32 x 32 pixels with `doubted` and balance, or as `condition` says without a part."""
    curation = curate_stills.recipe()
    blurred = Drop("blurred", (Where("technical.noise", below=0.7), Where("technical.edges", above=3.4)))
    rules: list[Rule] = [blurred if rule.name == "blurred" else rule for rule in curation.rules]
    left_out = GROUPS.get(condition.removeprefix("without "), ())
    balance: tuple[Balance, ...] = (InverseFrequency("label", power=1.0),) if condition != BALANCE else ()
    return replace(curation, rules=(*(r for r in rules if r.name not in left_out), *doubted), balance=balance)


def experiment(examples: int) -> Run:
    """The model and its budget."""
    return Run(
        name="pays",
        codec=CodecStage(codec=PixelCodecConfig()),
        denoiser=DenoiserStage(
            denoiser=DenoiserConfig(
                net=UNetConfig(widths=(32, 64)), conditions={"label": LabelConfig(classes=len(CLASSES))}
            ),
            buckets=(Bucket(height=SIDE, width=SIDE, batch=32),),
            train=Train(
                examples=examples, optimizer=Muon(), learning_rate=4e-3, warmup=1_600, decay=Cosine(),
                ema_std=(0.1,), checkpoint_every=examples, log_every=3_200,
            ),
        ),
        sampling=Sampling(solver=Euler(), steps=10, guidance=ClassifierFree(1.0), batch=100),
    )  # fmt: skip


class Pictures:
    """The parts of CIFAR-10: clean sets, the reference and the floor share nothing, with one another or the judge."""

    def __init__(self, folder: Path) -> None:
        self.shards = [pq.read_table(path) for path in sorted(folder.glob("cifar10_train-*.parquet"))]

    def rows(self, *shards: int) -> tuple[list[bytes], np.ndarray]:
        """Encoded pictures and labels."""
        table = pa.concat_tables([self.shards[k] for k in shards])
        return table["image"].to_pylist(), table["label"].to_numpy().astype(int)

    def clean(self, seed: int) -> list[Sample]:
        """The clean set of a seed: 0, 1 and 2 are disjoint."""
        data, labels = self.rows(4) if seed == TUNING else self.rows(0, 1)
        start = 0 if seed == TUNING else seed * A_CLASS
        rows = np.concatenate([np.flatnonzero(labels == c)[start : start + A_CLASS] for c in range(len(CLASSES))])
        if len(rows) < A_CLASS * len(CLASSES):
            raise SystemExit(f"there are pictures for the seeds 0, 1 and 2, not for {seed}")
        return [Sample(data[row], int(labels[row]), "sound", i) for i, row in enumerate(rows)]

    def raw(self, seed: int, turn: int = 0) -> list[Sample]:
        """The same, polluted; at every turn otherwise."""
        clean = self.clean(seed)
        return pollute([s.data for s in clean], [s.label for s in clean], np.random.default_rng([seed, turn]))

    @cached_property
    def reference(self) -> np.ndarray:
        return stack(self.rows(2)[0])

    @cached_property
    def floor(self) -> tuple[np.ndarray, np.ndarray]:
        """Real pictures in the samples' place, and their labels."""
        data, labels = self.rows(3)
        rows = np.concatenate([np.flatnonzero(labels == c)[: SAMPLES // len(CLASSES)] for c in range(len(CLASSES))])
        return stack([data[i] for i in rows]), labels[rows]

    @cached_property
    def judge(self) -> Judge:
        data, labels = self.rows(3, 4)
        take = np.arange(len(data)) >= 5000  # of shard 3 the first half is for the floor
        media = stack([d for d, t in zip(data, take, strict=True) if t])
        return train_judge([media], [multi_hot(labels[take, None].tolist(), len(CLASSES))], CLASSES, seed=0, steps=2000)

    @cached_property
    def inspector(self) -> Judge:
        """A classifier of what `pollute` did to a picture, trained on another part of the data."""
        samples = [s for turn in range(3) for s in self.raw(TUNING, turn) if s.kind in SEEN]
        kinds = multi_hot([[SEEN.index(s.kind)] for s in samples], len(SEEN))
        return train_judge([stack([s.data for s in samples])], [kinds], SEEN, seed=0, steps=1000, shift=0)


def stack(pictures: Sequence[bytes]) -> np.ndarray:
    """Encoded pictures as clips (n, 1, SIDE, SIDE, 3), scaled as for training."""
    small = [cv2.resize(decode(data), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for data in pictures]
    return np.stack(small)[:, None]


def table(path: Path, samples: Sequence[Sample]) -> Path:
    """The samples as a table to curate; what was done to each is said, but no rule reads it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {"image": [s.data for s in samples], "label": [s.label for s in samples],
                   "done": [s.kind for s in samples], "shows": [s.original for s in samples],
                   "split": ["train"] * len(samples)}  # fmt: skip
        pq.write_table(pa.table(columns), path)
    return path


def doubted(samples: Sequence[Sample], seed: int) -> list[int]:
    """Numbers of samples whose label is among the `UNLIKELY` least likely, to a classifier of the other folds."""
    media = stack([s.data for s in samples])
    labels, fold = np.array([s.label for s in samples]), np.array([s.original for s in samples]) % FOLDS
    rank = np.zeros(len(samples), int)
    for k in range(FOLDS):
        seen, held = fold != k, np.flatnonzero(fold == k)
        hot = multi_hot(labels[seen, None].tolist(), len(CLASSES))
        logits = train_judge([media[seen]], [hot], CLASSES, seed=seed, steps=600).logits(media[held])
        rank[held] = (logits < np.take_along_axis(logits, labels[held, None], 1)).sum(1)
    return np.flatnonzero(rank < UNLIKELY).tolist()


class Experiment:
    """All conditions of one folder; what is finished in it is read, not done again."""

    def __init__(self, pictures: Pictures, out: Path, examples: int) -> None:
        self.pictures, self.out, self.examples = pictures, out, examples
        self.doubted: dict[int, Doubted] = {}  # by seed

    def path(self, condition: str, seed: int) -> Path:
        """Where the result of a condition is kept."""
        return self.out / ("models" if self.examples else "sets") / f"{condition} {seed}.json".replace(" ", "-")

    def result(self, condition: str, seed: int) -> dict[str, Any]:
        """The scores of a model trained under a condition, or without training examples those of the set itself."""
        path = self.path(condition, seed)
        if not path.exists():
            catalogue, samples = self.curated(condition, seed)
            measure = self.model if self.examples else self.set
            media, labels = measure(catalogue, self.out / "runs" / path.stem)
            kept = [json.loads(row["more"])["done"] for row in catalogue.clips("train").to_pylist()]
            path.parent.mkdir(parents=True, exist_ok=True)
            found = {"condition": condition, "seed": seed, "pool": Counter(s.kind for s in samples),
                     "kept": Counter(kept), "scores": self.scores(media, labels, seed)}  # fmt: skip
            write_text(path, json.dumps(found))
        return json.loads(path.read_text())

    def curated(self, condition: str, seed: int) -> tuple[Catalogue, list[Sample]]:
        """The catalogue of a condition, and what it was made from."""
        pool = "clean" if condition == "clean" else "raw"
        samples = self.pictures.clean(seed) if condition == "clean" else self.pictures.raw(seed)
        source = table(self.out / "data" / f"{pool}-{seed}.parquet", samples)
        if condition in ("clean", "raw"):
            curation = Curation()
        else:
            if condition != LABELS and seed not in self.doubted:
                self.doubted[seed] = Doubted(tuple(f"{source.resolve()}#{i:08d}" for i in doubted(samples, seed)))
            curation = policy(condition, () if condition == LABELS else (self.doubted[seed],))
        path = self.out / "catalogues" / source.stem
        print(f"{condition} {seed}\n{curate([source], path, curation)}", flush=True)
        return Catalogue(path), samples

    def set(self, catalogue: Catalogue, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """Pictures of the set itself, as many as there are samples and as often as training draws them."""
        source = ClipSource(catalogue, "train", 1, SIDE, SIDE)
        take = np.random.default_rng(0).choice(len(source), SAMPLES, p=source.weights / source.weights.sum())
        return np.stack([source[int(i)]["media"] for i in take]), source.labels[take]

    def model(self, catalogue: Catalogue, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        """Samples of a model trained on it, as many of each class, and the labels asked for."""
        train_run(experiment(self.examples), catalogue, folder)
        generator, labels = Generator.load(folder), np.arange(SAMPLES, dtype=np.int32) % len(CLASSES)
        media = generator.draw([""] * SAMPLES, labels, ids=np.arange(SAMPLES), bucket=generator.run.denoiser.buckets[0])
        np.savez_compressed(folder / "samples.npz", media=media, labels=labels)
        for part in ("denoiser", "latents"):
            shutil.rmtree(folder / part)
        return media, labels

    def scores(self, media: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, tuple[float, float]]:
        """Each score, and what real pictures get in the place of `media`."""
        judge, (floor, floor_labels) = self.pictures.judge, self.pictures.floor
        found = generation_scores(media, self.pictures.reference, floor, judge.features, 0)
        hot, real_hot = (multi_hot(x[:, None].tolist(), len(CLASSES)) for x in (labels, floor_labels))
        found.append(label_score(media, hot, floor, real_hot, judge, 0))
        clean = stack([s.data for s in self.pictures.clean(seed)])
        copied = sorted({s.original for s in self.pictures.raw(seed) if s.kind == "copy"})
        drawn, real = (self.pictures.inspector.logits(x).argmax(1) for x in (media, floor))
        return {
            **{score.name: (score.value, score.floor or 0.0) for score in found},
            **{kind: (float((drawn == k).mean()), float((real == k).mean())) for k, kind in enumerate(SEEN)},
            "copied": (near(media, clean, copied), near(floor, clean, copied)),
        }


def near(media: np.ndarray, clean: np.ndarray, copied: Sequence[int]) -> float:
    """The share of clips whose nearest of the clean pictures, mirrored ones among them, is one of those copied.

    All at 8 x 8, so that a crop or a scaled copy is near too.
    """
    small, there = (x.reshape(len(x), 8, 2, 8, 2, 3).mean((2, 4)) for x in (media, clean))
    index, _ = nearest(small, np.concatenate([there, there[:, :, ::-1]]))
    return float(np.isin(index[:, 0] % len(clean), list(copied)).mean())


MEASURES = ("Fréchet distance", "precision", "recall", "label accuracy", *DAMAGE, "copied")


def measured(results: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    """A score of every result."""
    return np.array([result["scores"][name][0] for result in results])


def shown(values: np.ndarray) -> str:
    """Mean, and standard deviation over seeds where there are several."""
    spread = f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def markdown(results: dict[str, list[dict[str, Any]]]) -> str:
    """Three tables: what was trained, what each rule bought, and what curation found."""
    head = "| trained on | seeds | pictures | " + " | ".join(MEASURES)
    lines = [head + " |", "|---" * (len(MEASURES) + 3) + "|"]
    for condition, some in results.items():
        pictures = f"{np.mean([sum(r['kept'].values()) for r in some]):.0f}"
        cells = [shown(measured(some, name)) for name in MEASURES]
        lines.append(f"| {condition} | {len(some)} | {pictures} | " + " | ".join(cells) + " |")
    any_result = next(iter(results.values()))[0]["scores"]
    lines.append(
        "| held-back real pictures | | | " + " | ".join(f"{any_result[name][1]:.3f}" for name in MEASURES) + " |"
    )
    lines += ["", "| against curated, of the same seed | seeds | " + " | ".join(MEASURES) + " |",
              "|---" * (len(MEASURES) + 2) + "|"]  # fmt: skip
    curated = {r["seed"]: r for r in results.get("curated", [])}
    for condition, some in results.items():
        pairs = [(r, curated[r["seed"]]) for r in some if r["seed"] in curated]
        if condition == "curated" or not pairs:
            continue
        ours, theirs = zip(*pairs, strict=True)
        cells = [f"{(measured(ours, name) - measured(theirs, name)).mean():+.3f}" for name in MEASURES]
        lines.append(f"| {condition} | {len(pairs)} | " + " | ".join(cells) + " |")
    lines += ["", "| left out of | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    for condition, some in results.items():
        if condition not in ("clean", "raw"):
            shares = [np.mean([1 - r["kept"].get(k, 0) / r["pool"][k] for r in some]) for k in KINDS]
            lines.append(f"| {condition} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")
    return "\n".join(lines)


def draw(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Conditions from top to bottom, a dot a seed, a bar at the mean, dashed where real pictures are."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = ("Fréchet distance", "label accuracy", "letterboxed", "copied")
    figure, axes = pyplot.subplots(
        1, len(names), figsize=(12, 0.35 * len(results) + 1.2), sharey=True, layout="constrained"
    )
    for axis, name in zip(axes, names, strict=True):
        for y, some in enumerate(results.values()):
            values = measured(some, name)
            axis.plot(values, np.full(len(values), y), "o", color="C0", alpha=0.7, markeredgewidth=0)
            axis.plot([values.mean()] * 2, [y - 0.3, y + 0.3], color="C0")
        axis.axvline(next(iter(results.values()))[0]["scores"][name][1], color="0.5", linestyle="--", linewidth=1)
        axis.set_title(name)
        axis.grid(axis="x", color="0.9")
    axes[0].set_yticks(range(len(results)), list(results))
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="the folder of cifar10_train-*.parquet")
    parser.add_argument("--out", type=Path, default=Path("pays"))
    parser.add_argument(
        "--examples", type=int, default=32_000, help="of training, for every model; 0 measures the sets"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="the first two take the rules apart")
    parser.add_argument("--finished", action="store_true", help="show what is finished, and train nothing")
    args = parser.parse_args()
    experiment = Experiment(Pictures(args.images), args.out, args.examples)
    jobs = [(c, s) for s in args.seeds for c in ALL] + [(c, s) for s in args.seeds[:2] for c in ABLATIONS]
    jobs = [job for job in jobs if not args.finished or experiment.path(*job).exists()]
    results: dict[str, list[dict[str, Any]]] = {}
    for condition, seed in jobs:
        results.setdefault(condition, []).append(experiment.result(condition, seed))
    print(markdown(results))
    draw(results, args.out / "pays.png")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
