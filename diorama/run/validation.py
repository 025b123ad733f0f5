"""What a denoiser is validated on: latents of held-back clips, and of as many that train, bucket by bucket."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from diorama.core.array import Array, Key
from diorama.core.errors import UserError
from diorama.core.layout import Share
from diorama.data import ArraySource
from diorama.data.clips import Example
from diorama.data.feed import collate
from diorama.diffusion import Denoiser, Denoising
from diorama.diffusion.align import Aided, denoiser_of
from diorama.run.examples import some
from diorama.run.latents import Choice
from diorama.run.run import Bucket, Run
from diorama.train import Held, Loss
from diorama.train.by_source import SOURCE

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class _Apart:
    """The denoising loss alone of what is trained, at noise times that go by the examples' places."""

    denoising: Denoising

    def __call__(self, model: Denoiser | Aided, batch: dict[str, Array], key: Key) -> Loss:
        return self.denoising(denoiser_of(model), batch, key)


def held(run: Run, sources: Sequence[tuple[Bucket, ArraySource, ArraySource | None]]) -> Held:
    """Batches of up to `train.validate.clips` of every bucket's training and held-back clips, drawn by the run's seed.

    All batches of a bucket have one size, that it is compiled for once: the bucket's, or what fits in of the clips that
    there are. Raises `UserError` where no bucket has enough held-back clips for one on each device.
    """
    how, parts = run.denoiser.train.validate, run.layout.data * run.layout.fsdp
    assert how is not None
    kept, seen = list[Batch](), list[Batch]()
    for bucket, trained, back in sources:
        have = min(how.clips, len(trained), len(back) if back else 0)
        size = min(bucket.batch, have) // parts * parts
        if back is None or not size:
            continue
        kept += _batches(back, have // size * size, size, run.seed, run.layout.share)
        seen += _batches(trained, have // size * size, size, run.seed, run.layout.share)
    if not kept:
        raise UserError(
            f"denoiser.train.validate is set and no bucket has {parts} held-back clips or more: hold some back when "
            "curating, or set it to None"
        )
    return Held(_Apart(replace(run.denoiser.objective, stratified=True)), kept, seen)


def _batches(source: ArraySource, number: int, size: int, seed: int, share: Share) -> list[Batch]:
    """`number` examples drawn by `seed`, in batches of `size` of which this process gets its share."""
    rows = some(len(source), number, seed)
    return [collate([_plain(source[int(i)]) for i in rows[start : start + size][share.host :: share.hosts]])
            for start in range(0, number, size)]  # fmt: skip


def _plain(example: Example) -> Example:
    """An example as its first view shows it, without features and source, which held-back clips lack."""
    return {name: value.rows.read(value.example, 0) if isinstance(value, Choice) else value
            for name, value in example.items() if name not in ("features", SOURCE)}  # fmt: skip
