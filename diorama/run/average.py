"""Averages of other widths than training kept, made afterwards from its snapshots: a run of their own, or their loss.

Source: Karras et al. (EDM2, arXiv 2312.02696), section 3.2; figure 5 shows how much the width matters.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diorama.codec import encode
from diorama.core import release
from diorama.core.array import Array, Key
from diorama.core.errors import UserError
from diorama.core.files import write_text
from diorama.core.progress import progress
from diorama.core.random import stream
from diorama.diffusion import Denoiser, Denoising
from diorama.diffusion.align import denoiser_of
from diorama.run.examples import clips, conditions, media_of, some
from diorama.run.features import learned
from diorama.run.folder import Folder
from diorama.run.run import Bucket
from diorama.train import reconstruct
from diorama.train.checkpoint import SNAPSHOTS

HELD, DRAWS = 512, 8  # held-back clips at most, and noise times drawn for each
COPIED = ("config.txt", "catalogue.txt", "tokenizer.json", "codec.json", "codec.safetensors", "latents/*.json",
          "codec/log.jsonl", "denoiser/log.jsonl")  # fmt: skip


def averaged(folder: Folder, std: float, examples: int | None = None) -> Denoiser:
    """The denoiser averaged with relative width `std`, looking back from `examples` (None: from the newest snapshot).

    Raises `UserError` where the run kept no snapshots, or none near there, and for a width that no average has.
    """
    newest = max((int(path.name) for path in (folder.path / "denoiser" / SNAPSHOTS).glob("[0-9]*")), default=0)
    if examples is not None and not 0 < examples <= max(newest, 1):
        raise UserError(f"{folder.path} has snapshots up to {newest:,} examples, and none says what came after: "
                        f"ask for at most {newest}")  # fmt: skip
    try:
        return denoiser_of(reconstruct(folder.path / "denoiser", learned(folder.run(), folder)[0], std, examples))
    except ValueError as error:
        raise UserError(str(error)) from None


def average_run(folder: Folder, std: float, examples: int | None, out: Path) -> Folder:
    """A run of its own in the folder `out`, to be sampled and evaluated as any other: `folder`'s, with that average.

    `average.json` there says which. Raises `UserError` as `averaged`, and where `out` holds something else.
    """
    about = {"run": str(folder.path.resolve()), "std": std, "examples": examples}
    note, target = out / "average.json", out / "denoiser.safetensors"
    if out.exists() and any(out.iterdir()) and not (note.exists() and json.loads(note.read_text()) == about):
        raise UserError(f"{out} holds something else than this average of {folder.path}: name another folder")
    if target.exists() and examples is not None:
        return Folder.open(out)  # the newest snapshot may be a newer one now
    model = averaged(folder, std, examples)
    write_text(note, json.dumps(about) + "\n")
    for pattern in COPIED:
        for path in folder.path.glob(pattern):
            copy = out / path.relative_to(folder.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    release.save(model, target)
    return Folder.open(out)


@dataclass(frozen=True)
class Width:
    """The loss of one average: its mean, and how far it is from that of the run's own average, with the half-width of
    a 95 % interval of that difference (paired: the same clips, noise and noise times)."""

    std: float
    loss: float
    difference: float
    margin: float


def sweep_averages(folder: Folder, stds: Sequence[float], examples: int | None = None) -> tuple[list[Width], int]:
    """The loss of averages of these widths on held-back clips, and how many clips that are.

    Noise times are drawn as in training, spread evenly, `DRAWS` for each clip. What was found is kept in
    `evaluation/averages.json`. Raises `UserError` as `averaged`, and where no clip is held back.
    """
    given = _held(folder)
    ids = np.unique(np.concatenate([batch["id"] for batch in given]))
    with progress(len(stds) + 1, "averages", "widths") as bar:

        def losses(model: Denoiser) -> np.ndarray:
            found = _losses(folder, model, given)
            bar.advance()
            return found

        own = losses(folder.denoiser())
        rows = [_row(std, losses(averaged(folder, std, examples)), own) for std in stds]
    about = {
        "examples": examples, "n": len(ids), "draws": DRAWS, "seed": folder.run().seed, "own": float(own.mean()),
        "widths": [asdict(row) for row in rows],
    }  # fmt: skip
    write_text(folder.path / "evaluation" / "averages.json", json.dumps(about, indent=1) + "\n")
    return rows, len(ids)


def _row(std: float, losses: np.ndarray, own: np.ndarray) -> Width:
    """Losses are (clips, draws)."""
    by_clip = (losses - own).mean(1)
    margin = 1.96 * by_clip.std(ddof=1) / len(by_clip) ** 0.5 if len(by_clip) > 1 else float("nan")
    return Width(std, float(losses.mean()), float(by_clip.mean()), float(margin))


def _held(folder: Folder) -> list[dict[str, np.ndarray]]:
    """The latents of held-back clips of the first bucket that has any, with their conditions, in whole batches."""
    run, catalogue, codec = folder.run(), folder.catalogue(), folder.codec()
    found = ((bucket, clips(catalogue, bucket, "test")) for bucket in run.denoiser.buckets)
    bucket, source = next(((b, s) for b, s in found if s), (Bucket(), None))
    if source is None:
        raise UserError(f"{catalogue.path} holds back no clip (split 'test') of the run's shapes: curate more media")
    rows, batches = some(len(source), HELD, run.seed), []
    for start in range(0, len(rows), bucket.batch):
        part = np.resize(rows[start : start + bucket.batch], bucket.batch)  # the last batch begins anew where it ends
        media = np.asarray(encode(codec, media_of(source, part) / np.float32(127.5) - 1))
        said = conditions(run, folder, [source.captions[i] for i in part], source.labels[part])
        batches.append({"media": media, "id": part.astype(np.uint32), **said})
    if missing := run.denoiser.denoiser.conditions.keys() - batches[0].keys():
        raise UserError(
            f"{folder.path} draws from other clips ({', '.join(sorted(missing))}), which a sweep does not give: "
            "compare averages by diorama evaluate"
        )
    return batches


def _losses(folder: Folder, model: Denoiser, batches: list[dict[str, np.ndarray]]) -> np.ndarray:
    """The loss of every clip at its noise times, (clips, draws)."""
    run = folder.run()
    objective = replace(run.denoiser.objective, stratified=True)
    out = [
        np.stack([_loss(objective, model, batch, stream(run.seed, "average", draw)) for draw in range(DRAWS)], 1)
        for batch in batches
    ]
    ids = np.concatenate([batch["id"] for batch in batches])
    return np.concatenate(out)[np.unique(ids, return_index=True)[1]]


@partial(jax.jit, static_argnums=0)
def _loss(objective: Denoising, model: Denoiser, batch: dict[str, Any], key: Key) -> Array:
    k_tau, k_noise = jax.random.split(key)
    x0, ids = batch["media"], batch["id"]
    process = model.process.of(x0.shape[1:])
    tau = objective.times(process, k_tau, ids, x0.shape[1])
    epsilon = process.noise.draw(k_noise, ids, x0.shape[1:])
    return objective.at(model, x0, epsilon, tau, model.conditions.signals(batch))
