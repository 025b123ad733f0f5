"""Measuring a run on held-back clips: how well it reconstructs, generates, and does what prompts ask."""

import json
from dataclasses import replace
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
    generation_scores,
    label_score,
    memorisation_score,
    multi_hot,
    pixels,
    read_scores,
    reconstruction_scores,
    to_json,
    train_judge,
)  # fmt: skip
from diorama.run.folder import Folder
from diorama.run.generate import Generator
from diorama.run.run import Bucket, Run
from diorama.run.train import clips, to_uint8, whole

BITS = 8  # a latent number as stored
PATIENCE = 2048  # training and held-back clips that are read at most


def evaluate_run(folder: Folder) -> list[Score]:
    """The scores of a trained run, kept in `evaluation/scores.json`; measured anew when the run or a setting changed.

    Every bucket with held-back clips is measured: reconstruction, and samples for the held-back clips' own prompts.
    What was drawn is kept in `evaluation/<bucket>.npz` with its nearest training clips. Raises `UserError` when no
    bucket has held-back clips.
    """
    key = _key(folder)
    stamp = folder.scores.with_name("key.txt")
    if folder.scores.exists() and stamp.exists() and stamp.read_text() == key:
        return read_scores(folder.scores)
    run, catalogue = folder.run(), folder.catalogue()
    generator = Generator.load(folder.path)
    pairs = [
        (bucket, train, test)
        for bucket in run.denoiser.buckets
        if (train := clips(catalogue, bucket, "train")) and (test := clips(catalogue, bucket, "test"))
    ]
    if not pairs:
        raise UserError(f"{catalogue.path} holds back no clip (split 'test') of the run's shapes: curate more media")
    real = {bucket: (_media(train), _media(test)) for bucket, train, test in pairs}
    judge = _judge(run, catalogue, [(train, real[bucket][0]) for bucket, train, _ in pairs])
    scores: list[Score] = []
    for bucket, _train, test in pairs:
        named = [] if len(pairs) == 1 else [str(bucket)]
        found = _codec_scores(generator, bucket, real[bucket][1]) if isinstance(generator.codec, Codec) else []
        found += _sample_scores(generator, bucket, test, *real[bucket], judge, key)
        scores += [replace(s, name=", ".join([s.name, *named])) for s in found]
    write_text(folder.scores, to_json(scores))
    write_text(stamp, key)
    return scores


def _key(folder: Folder) -> str:
    """What the scores depend on."""
    parts = [folder.config.read_bytes()]
    parts += [p.read_bytes() for p in sorted(folder.path.glob("*.safetensors"))]
    return hash_bytes(b"".join(parts))


def _media(source: ClipSource) -> np.ndarray:
    """The clips as uint8, at most `PATIENCE` of them (they are in order of content hash, so any prefix is a draw)."""
    return np.stack([source[i]["media"] for i in range(min(len(source), PATIENCE))])


def _column(source: ClipSource, name: str) -> list[Any]:
    """What each clip's row says under `name`, among the catalogue's columns or the sidecar's own."""
    rows = [source.row(i) for i in range(min(len(source), PATIENCE))]
    return [r[name] if name in r else json.loads(r["more"] or "{}").get(name) for r in rows]


def _labels(source: ClipSource, run: Run) -> list[list[int]]:
    """The labels of each clip as a list: none, one, or several."""
    values = _column(source, run.evaluation.labels or "label")
    return [[] if v is None else list(v) if isinstance(v, list | tuple) else [int(v)] for v in values]


def _judge(run: Run, catalogue: Catalogue, sets: list[tuple[ClipSource, np.ndarray]]) -> Judge | None:
    """A classifier of the run's labels, trained on its training clips; None if they have no labels."""
    if not run.evaluation.labels:
        return None
    labels = [_labels(source, run) for source, _ in sets]
    if not all(any(rows) for rows in labels):
        return None
    count = 1 + max(label for rows in labels for row in rows for label in row)
    names = run.evaluation.names or tuple(map(str, range(count)))
    hot = [multi_hot(rows, len(names)) for rows in labels]
    return train_judge(
        [media for _, media in sets], hot, names, seed=run.seed, steps=run.evaluation.classifier_steps
    )  # fmt: skip


def _codec_scores(generator: Generator, bucket: Bucket, real: np.ndarray) -> list[Score]:
    """Reconstruction of held-back clips from latents as stored, `BITS` bits a number within 4 deviations."""
    codec, again = generator.codec, []
    for start in range(0, len(real), bucket.batch):
        media = real[start : start + bucket.batch] / np.float32(127.5) - 1
        media, n = whole(media, bucket.batch), len(media)
        again.append(
            to_uint8(decode(codec, encode(codec, media)))[:n, : bucket.frames, : bucket.height, : bucket.width]
        )
    numbers = int(np.prod(codec.latent_shape(bucket.frames, bucket.height, bucket.width)))
    return reconstruction_scores(
        real, np.concatenate(again), latent_numbers=numbers, bits_a_number=BITS, seed=generator.run.seed
    )


def _sample_scores(
    generator: Generator, bucket: Bucket, test: ClipSource, real_train: np.ndarray, real_test: np.ndarray,
    judge: Judge | None, key: str,
) -> list[Score]:  # fmt: skip
    """Samples for held-back prompts, and what they are worth."""
    run, folder = generator.run, generator.folder
    n = min(run.evaluation.samples, len(real_test))
    prompts, labels = test.captions[:n], test.labels[:n]
    samples = _drawn(generator, bucket, prompts, labels, key)
    features: Features = judge.features if judge else pixels()
    scores = generation_scores(samples, real_train, real_test, features, run.seed)
    memory, found = memorisation_score(samples, real_train, real_test, run.seed)
    scores.append(memory)
    path = folder.path / "evaluation" / f"neighbours-{bucket}.npz"
    with write_aside(path) as aside:
        np.savez(aside, index=found.neighbour, distance=found.distance, threshold=found.threshold)
    if judge:
        wanted = _labels(test, run)
        for many in sorted({len(w) for w in wanted if w}):
            pick = [i for i, w in enumerate(wanted) if len(w) == many]
            mine = [i for i in pick if i < n]
            name = "label accuracy" if many == 1 else f"label accuracy, {many} at once"
            hot = multi_hot(wanted, len(judge.names))
            if mine:
                scores.append(
                    label_score(samples[mine], hot[mine], real_test[pick], hot[pick], judge, run.seed, name=name)
                )
    if run.evaluation.motion and bucket.frames > 1:
        asked = _column(test, run.evaluation.motion)
        pick = [i for i, a in enumerate(asked) if a and len(a) == 1]
        mine = [i for i in pick if i < n]
        real = [asked[i][0] for i in pick]
        scores.append(direction_score(samples[mine], [asked[i][0] for i in mine], real_test[pick], real, run.seed))
    return scores


def _drawn(generator: Generator, bucket: Bucket, prompts: list[str], labels: np.ndarray, key: str) -> np.ndarray:
    """Samples for the prompts: those kept from an evaluation that was cut off, if they are of this run as it is."""
    path = generator.folder.path / "evaluation" / f"{bucket}.npz"
    if path.exists():
        with np.load(path) as kept:
            if str(kept["key"]) == key:
                return kept["media"]
    ids = np.arange(len(prompts))
    media = generator.draw(prompts, labels, ids=ids, bucket=bucket, quiet=False)
    with write_aside(path) as aside:
        np.savez_compressed(aside, media=media, prompts=np.array(prompts), ids=ids, key=np.array(key))
    return media
