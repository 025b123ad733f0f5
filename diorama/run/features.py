"""What a frozen encoder sees in the clips that a denoiser is trained on, computed once and kept beside their latents.

CATALOGUE/latents/<features>/<window>/ is as that of latents (`run/latents.py`), a row for each, in float16. <features>
hashes the encoder and the grid: features are brought to that of the layer which is aligned to them, which is coarser
than the encoder's as a rule, so that a clip takes 2 t h w d bytes. RUN/features.json notes the encoder's width, which a
checkpoint cannot be read without; the release needs nothing of this.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diorama.codec import PixelCodec
from diorama.codec.codec import on_grid
from diorama.core.errors import UserError
from diorama.core.files import hash_bytes, write_text
from diorama.data import ClipSource
from diorama.data.embed.dense import PretrainedPlaces, Seeing
from diorama.diffusion.align import Aligned, grids
from diorama.run.examples import media_of, some
from diorama.run.folder import Folder
from diorama.run.latents import Cache, Rows
from diorama.run.run import Bucket, DenoiserStage, Run
from diorama.train import Objective

VERSION = 1  # of how clips become features


def grid_of(stage: DenoiserStage, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """The grid (t, h, w) of the first layer that is aligned to features, for latents of `shape`."""
    number = next(term.layer for term in stage.align if term.target)
    return grids(stage.denoiser, shape)[number].shape[1:4]


def check(stage: DenoiserStage, codec: Any, shapes: Iterable[tuple[int, ...]]) -> None:
    """Raises `UserError` for terms that the network or the codec's latents of `shapes` cannot have, and for an encoder
    that cannot be read."""
    if not stage.align:
        return
    objective = Aligned(stage.objective, stage.align)
    for shape in shapes:
        jax.eval_shape(partial(objective.init, config=stage.denoiser, shape=shape, features=1), jax.random.key(0))
    if stage.features is not None and not on_grid(codec):
        raise UserError(
            "denoiser.features are of places, and this codec's latents are a line of tokens: leave them out"
        )
    if isinstance(stage.features, PretrainedPlaces):
        stage.features.made(Path(), lambda n: np.zeros(0))


def features(run: Run, folder: Folder, source: ClipSource, bucket: Bucket) -> Rows:
    """The features of a bucket's clips, in the source's order: from the cache, or computed first. Raises `UserError`
    where the encoder is another than the run began with."""
    stage, codec = run.denoiser, folder.codec_like()
    assert stage.features is not None

    def pictures(most: int) -> np.ndarray:
        rows = some(len(source), most, run.seed)
        return np.concatenate([media_of(source, rows[i : i + 64])[:, 0] for i in range(0, len(rows), 64)])

    encoder, name = stage.features.made(folder.path / "features.safetensors", pictures)
    shape = codec.latent_shape(bucket.frames, bucket.height, bucket.width)
    frames = 1 if isinstance(codec, PixelCodec) else codec.config.temporal
    seeing: Any = Seeing(encoder, frames, grid_of(stage, shape))  # to the cache, a codec
    width = seeing.latent_shape(bucket.frames, bucket.height, bucket.width)[-1]
    note = folder.path / "features.json"
    if not note.exists():
        write_text(note, json.dumps({"width": width, "hash": name}) + "\n")
    if json.loads(note.read_text())["hash"] != name:
        raise UserError(
            f"{folder.path} was begun with another encoder than denoiser.features are of: use another folder"
        )
    root = source.catalogue.path if os.access(source.catalogue.path, os.W_OK) else folder.path
    told = hash_bytes(f"features {VERSION} {name} {seeing.frames} {seeing.grid}".encode(), 8)
    cache = Cache(root, told, source, bucket, replace(stage.latents, dtype="float16"))
    cache.fill(seeing, run.layout, folder.called(f"features {bucket}"))
    return cache.rows()


def learned(run: Run, folder: Folder) -> tuple[Callable[[Any], Any], Objective]:
    """What a denoiser's training is born by, `init(key)`, and what it minimises; a checkpoint is read by the former.

    Where terms have parameters of their own, `denoiser_of` takes the denoiser out of what is trained.
    """
    stage, codec = run.denoiser, folder.codec_like()
    if not stage.align:
        return partial(stage.denoiser.init, channels=codec.config.channels), stage.objective
    objective, bucket, note = Aligned(stage.objective, stage.align), stage.buckets[0], folder.path / "features.json"
    shape = codec.latent_shape(bucket.frames, bucket.height, bucket.width)
    width = json.loads(note.read_text())["width"] if stage.features else 0
    return partial(objective.init, config=stage.denoiser, shape=shape, features=width), objective
