"""Measuring a run on held-back clips: how well it reconstructs, generates, and does what prompts ask."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from diorama.codec import Codec, decode, encode
from diorama.core.errors import UserError
from diorama.core.files import hash_bytes, write_aside, write_text
from diorama.data import Catalogue, ClipSource
from diorama.evaluate import (
    Features,
    Judge,
    Score,
    direction_score,
    enlarged_scores,
    generation_scores,
    label_score,
    memorisation_score,
    multi_hot,
    pixels,
    quantise,
    read_scores,
    reconstruction_scores,
    to_json,
    train_judge,
)  # fmt: skip
from diorama.evaluate.evaluate import FEWEST
from diorama.run.cascade import Cascaded, CascadeFolder
from diorama.run.examples import clips, media_of, some, whole
from diorama.run.folder import Folder
from diorama.run.generate import Generator
from diorama.run.resolution import low_of, raised, repeated
from diorama.run.run import Bucket, Run

BITS, REACH = 8, 4.0  # a latent number as it would be sent: levels within so many standard deviations
HELD, ROOM = 2048, 1 << 30  # held-back examples, and bytes of training clips, that are read at most


def evaluate_run(folder: Folder) -> list[Score]:
    """The scores of a trained run, kept in `evaluation/scores.json`; measured anew when the run or a setting changed.

    Every bucket with held-back clips is measured: reconstruction, and samples for the held-back clips' own prompts.
    What was drawn is kept in `evaluation/`, and which training clips are nearest to it. Raises `UserError` when no
    bucket has held-back clips, the labels are none, or the catalogue is not the one that was trained on.
    """
    run, catalogue = folder.run(), folder.catalogue()
    known = kept_scores(folder)
    if known is not None:
        return known
    key = fingerprint(folder)
    generator = Cascaded.load(folder.path) if isinstance(folder, CascadeFolder) else Generator.load(folder.path)
    examples, judge = examples_and_judge(run, catalogue)
    scores: list[Score] = []
    for bucket, seen, held in examples:
        named = [] if len(examples) == 1 else [str(bucket)]
        found = _codec_scores(generator, bucket, held.media) if isinstance(generator.codec, Codec) else []
        found += _sample_scores(generator, bucket, seen, held, judge, key)
        scores += [replace(s, name=", ".join([s.name, *named])) for s in found]
    write_text(folder.scores, to_json(scores))
    write_text(folder.scores.with_name("key.txt"), key)
    return scores


def examples_and_judge(run: Run, catalogue: Catalogue) -> "tuple[list[tuple[Bucket, Clips, Clips]], Judge | None]":
    """Training and held-back clips of every bucket that has both, and a classifier of the run's labels, if it has any.

    Raises `UserError` when no bucket has held-back clips, or the labels are none.
    """
    pairs = [
        (bucket, train, test)
        for bucket in run.denoiser.buckets
        if (train := clips(catalogue, bucket, "train")) and (test := clips(catalogue, bucket, "test"))
    ]
    if not pairs:
        raise UserError(f"{catalogue.path} holds back no clip (split 'test') of the run's shapes: curate more media")
    data = [(bucket, _read(train, run), _read(test, run, HELD)) for bucket, train, test in pairs]
    return data, _judge(run, [train for _, train, _ in data], [test for _, _, test in data])


def gaps(folder: Folder) -> list[str]:
    """What is not measured for want of held-back clips, in words."""
    catalogue, said = folder.catalogue(), []
    for bucket in folder.run().denoiser.buckets:
        train, test = clips(catalogue, bucket, "train"), clips(catalogue, bucket, "test")
        held = len(test) if test else 0
        if train and not held:
            said.append(f"{bucket}: not measured, no clip of that shape is held back")
        elif train and held < FEWEST:
            said.append(f"{bucket}: no distances, precision or recall: {held} held back, {FEWEST} are needed")
    return said


def kept_scores(folder: Folder) -> list[Score] | None:
    """The scores that were measured of this run as it is now; None if there are none."""
    stamp = folder.scores.with_name("key.txt")
    current = folder.scores.exists() and stamp.exists() and stamp.read_text() == fingerprint(folder)
    return read_scores(folder.scores) if current else None


def fingerprint(folder: Folder) -> str:
    """What scores depend on: settings, data and parameters."""
    parts = [folder.config.read_bytes(), folder.manifest.read_bytes().split(b"\n")[1]]
    parts += [path.read_bytes() for path in folder.drawn_by(folder.written().sampling)]
    return hash_bytes(b"".join(parts))


@dataclass(frozen=True)
class Clips:
    """Examples in memory; sources are in order of clip, so those that do not fit are left out at random."""

    media: np.ndarray  # (n, t, h, w, 3) uint8
    rows: list[dict[str, Any]]  # what the catalogue knows of each one's clip
    captions: list[str]
    labels: np.ndarray  # the prompt's class, -1 for none
    wanted: list[list[int]]  # the labels to be judged by: none, one or several
    note: str  # how many there are

    def column(self, name: str) -> list[Any]:
        """What each row says under `name`, among the catalogue's columns or the sidecar's own."""
        return [r[name] if name in r else json.loads(r["more"] or "{}").get(name) for r in self.rows]


def _read(source: ClipSource, run: Run, most: int | None = None) -> Clips:
    most = most or max(1, ROOM // (source.frames * source.height * source.width * 3))
    take = some(len(source), most, run.seed)
    rows = [source.row(int(i)) for i in take]
    clips, n = len({r["id"] for r in rows}), f"{len(take):,}"
    note = (n if len(take) == len(source) else f"{n} of {len(source):,}") + (
        "" if clips == len(take) else f" windows of {clips:,}"
    )
    captions, labels = source.captions, source.labels
    read = Clips(media_of(source, take), rows, [captions[i] for i in take], labels[take], [], note)
    return replace(read, wanted=[_listed(v, run) for v in read.column(run.evaluation.labels or "label")])


def _listed(value: Any, run: Run) -> list[int]:
    """A clip's labels as a list; -1 is none, as everywhere."""
    values = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(v, int) for v in values):
        raise UserError(
            f"the clips' '{run.evaluation.labels}' holds {values}, which are no numbers: set evaluation.labels to a "
            "column of class numbers, or to None"
        )
    return [v for v in values if v >= 0]


def _judge(run: Run, train: list[Clips], test: list[Clips]) -> Judge | None:
    """A classifier of the run's labels, trained on its labelled training clips; None if some bucket has none."""
    if not run.evaluation.labels or not all(any(clips.wanted) for clips in train):
        return None
    count = 1 + max(label for clips in (*train, *test) for labels in clips.wanted for label in labels)
    names = run.evaluation.names or tuple(map(str, range(count)))
    if count > len(names):
        raise UserError(
            f"the clips have label {count - 1} and evaluation.names names {len(names)}: name them all, or none"
        )
    labelled = [[i for i, labels in enumerate(clips.wanted) if labels] for clips in train]
    media = [clips.media[rows] for clips, rows in zip(train, labelled, strict=True)]
    hot = [multi_hot([clips.wanted[i] for i in rows], len(names)) for clips, rows in zip(train, labelled, strict=True)]
    return train_judge(media, hot, names, seed=run.seed, steps=run.evaluation.classifier_steps)


def _codec_scores(generator: Generator | Cascaded, bucket: Bucket, real: np.ndarray) -> list[Score]:
    """Reconstruction of held-back clips from latents rounded to `BITS` bits a number within `REACH` deviations."""
    codec, again = generator.codec, []
    step = 2 * REACH / (2**BITS - 1)
    for start in range(0, len(real), bucket.batch):
        media = real[start : start + bucket.batch] / np.float32(127.5) - 1
        media, n = whole(media, bucket.batch), len(media)
        sent = step * np.round(np.clip(encode(codec, media), -REACH, REACH) / step)
        again.append(quantise(decode(codec, sent))[:n, : bucket.frames, : bucket.height, : bucket.width])
    numbers = int(np.prod(codec.latent_shape(bucket.frames, bucket.height, bucket.width)))
    return reconstruction_scores(
        real, np.concatenate(again), latent_numbers=numbers, bits_a_number=BITS, seed=generator.run.seed
    )


def _sample_scores(
    generator: Generator | Cascaded, bucket: Bucket, train: Clips, test: Clips, judge: Judge | None, key: str
) -> list[Score]:
    """Samples for held-back prompts, and what they are worth."""
    run, folder = generator.run, generator.folder
    n = min(run.evaluation.samples, len(test.media))
    low = low_of(run, test.media[:n]) if isinstance(generator, Generator) else None
    samples = _drawn(generator, bucket, test.captions[:n], test.labels[:n], low, key)
    features: Features = judge.features if judge else pixels()
    scores = generation_scores(samples, train.media, test.media, features, run.seed)
    if run.denoiser.denoiser.low and low is not None:
        scores += enlargement(run, low, samples, test.media[:n])
    memory, found = memorisation_score(samples, train.media, test.media, run.seed)
    scores.append(replace(memory, note=f"{memory.note}; training clips: {train.note}, held back: {test.note}"))
    with write_aside(neighbours_path(folder, bucket)) as aside:
        np.savez(
            aside, index=found.neighbour, distance=found.distance, threshold=found.threshold, key=np.array(key),
            train=len(train.media), test=len(test.media),
        )  # fmt: skip
    if judge:
        for many in sorted({len(w) for w in test.wanted if w}):
            pick = [i for i, w in enumerate(test.wanted) if len(w) == many]
            mine = [i for i in pick if i < n]
            name = "label accuracy" if many == 1 else f"label accuracy, {many} at once"
            hot = multi_hot(test.wanted, len(judge.names))
            if mine:
                scores.append(
                    label_score(samples[mine], hot[mine], test.media[pick], hot[pick], judge, run.seed, name=name)
                )
    if run.evaluation.motion and bucket.frames > 1:
        asked = test.column(run.evaluation.motion)
        pick = [i for i, a in enumerate(asked) if a and len(a) == 1]
        mine = [i for i in pick if i < n]
        real = [asked[i][0] for i in pick]
        if mine:
            scores.append(direction_score(samples[mine], [asked[i][0] for i in mine], test.media[pick], real, run.seed))
    return scores


def enlargement(run: Run, low: np.ndarray, samples: np.ndarray, real: np.ndarray) -> list[Score]:
    """What a run that starts from a low resolution makes of that of `real` clips, beside the plain ways."""
    assert run.denoiser.denoiser.low is not None
    _, config = run.denoiser.denoiser.low
    size = real.shape[1:4]
    plain = {
        "bicubic, blended": np.stack([raised(clip, config, *size) for clip in low]),
        "nearest, held": np.stack([repeated(clip, config, size[0]) for clip in low]),
    }
    new = np.flatnonzero((np.arange(size[0]) % config.time > 0) | (config.space > 1))
    if not len(new):
        return []  # nothing is made
    return enlarged_scores(samples[:, new], real[:, new], {name: x[:, new] for name, x in plain.items()}, run.seed)


def samples_path(folder: Folder, bucket: Bucket) -> Path:
    """Where the samples of a bucket are kept; buckets that differ in stride alone have the same shape."""
    return folder.path / "evaluation" / f"{folder.run().denoiser.buckets.index(bucket)}.{bucket}.npz"


def neighbours_path(folder: Folder, bucket: Bucket) -> Path:
    """Where it is kept which training clips are nearest to those samples."""
    path = samples_path(folder, bucket)
    return path.with_name(f"neighbours-{path.name}")


def _drawn(
    generator: Generator | Cascaded, bucket: Bucket, prompts: list[str], labels: np.ndarray, low: np.ndarray | None,
    key: str,
) -> np.ndarray:  # fmt: skip
    """Samples for the prompts: those kept from an evaluation that was cut off, if they are of this run as it is."""
    path = samples_path(generator.folder, bucket)
    if path.exists():
        with np.load(path) as kept:
            if str(kept["key"]) == key:
                return kept["media"]
    ids = np.arange(len(prompts))
    if isinstance(generator, Cascaded):
        media = generator.draw(prompts, labels, ids=ids, bucket=bucket, quiet=False)
    else:
        media = generator.draw(prompts, labels, ids=ids, bucket=bucket, low=low, quiet=False)
    with write_aside(path) as aside:
        np.savez_compressed(aside, media=media, prompts=np.array(prompts), ids=ids, key=np.array(key))
    return media
