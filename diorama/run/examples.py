"""Examples for a run: the clips of its buckets, and the signals that its denoiser wants of them."""

import numpy as np

from diorama.core.errors import UserError
from diorama.data import Catalogue, ClipSource
from diorama.net import LabelConfig, TextConfig, text
from diorama.run.folder import Folder
from diorama.run.run import Bucket, Run


def clips(catalogue: Catalogue, bucket: Bucket, split: str | None) -> ClipSource | None:
    """The clips of a bucket, or None if the catalogue has none of that shape."""
    try:
        return ClipSource(
            catalogue, split, bucket.frames, bucket.height, bucket.width,
            stride=bucket.stride, hop=bucket.hop, kind=bucket.kind, aspects=bucket.aspects,
        )  # fmt: skip
    except UserError:
        return None


def sources(catalogue: Catalogue, buckets: tuple[Bucket, ...]) -> list[tuple[Bucket, ClipSource]]:
    """The training clips of every bucket that has any. Raises `UserError` when none has."""
    found = [(bucket, source) for bucket in buckets if (source := clips(catalogue, bucket, "train"))]
    if not found:
        wanted = ", ".join(map(str, buckets))
        raise UserError(f"{catalogue.path} has no training clip for any bucket ({wanted}): set other frames or strides")
    return found


def conditions(run: Run, folder: Folder, captions: list[str], labels: np.ndarray) -> dict[str, np.ndarray]:
    """What is said of these clips by name, as the denoiser's conditions want it; `run/resolution.py` has the rest."""
    out: dict[str, np.ndarray] = {}
    for name, config in run.denoiser.denoiser.conditions.items():
        if isinstance(config, TextConfig):
            out[name] = text.encode(folder.tokenizer(), captions, config.length)
        elif isinstance(config, LabelConfig):
            if labels.max(initial=-1) >= config.classes:
                raise UserError(
                    f"the data have label {labels.max()} and denoiser.denoiser.conditions.{name}.classes is "
                    f"{config.classes}: set it to {labels.max() + 1}"
                )
            out[name] = labels.astype(np.int32)
    return out


def whole(media: np.ndarray, size: int) -> np.ndarray:
    """A batch filled up to `size` by its last example, so that one compilation serves all."""
    return np.concatenate([media, np.repeat(media[-1:], size - len(media), axis=0)])


def some(length: int, most: int, seed: int) -> np.ndarray:
    """Rows of a source, in order: all, or `most` drawn by `seed`. Its first ones may all be windows of one clip."""
    return np.sort(np.random.default_rng(seed).permutation(length)[:most])


def media_of(source: ClipSource, rows: np.ndarray) -> np.ndarray:
    """The clips of these rows, uint8 (n, t, h, w, 3)."""
    return np.stack([source[int(i)]["media"] for i in rows])
