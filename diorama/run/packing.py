"""Training on packs: rows of several clips instead of batches of one shape (`data.pack`, `diffusion.packed`)."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import numpy as np

from diorama.core.errors import UserError
from diorama.data import ArraySource
from diorama.data.feed import Source
from diorama.data.pack import PackedSource
from diorama.diffusion import Denoising
from diorama.diffusion.packed import PackedDenoising, alike
from diorama.net import LabelConfig, TransformerConfig
from diorama.train import Objective
from diorama.train.by_source import SOURCE

if TYPE_CHECKING:
    from diorama.run.run import Bucket, DenoiserStage

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Packing:
    """Clips of all buckets side by side in rows of one length: the training step is compiled once, for any of them.

    A row is an example of `train`, which several clips share. Clips come as often as their weights say, whichever
    bucket they are in; the buckets' own batches are those of validation. Each token attends to its own clip alone, but
    is compared with the whole row: longer rows are fuller, and cost more attention.

    Args:
        tokens: latent cells of a row, as many as the largest clip has or more.
        rows: in a batch.
    """

    tokens: int = 1024
    rows: int = 8

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.rows < 1:
            raise UserError("denoiser.packing has at least one row of at least one token")

    def check(self, stage: "DenoiserStage") -> None:
        """Raises `UserError` for what cannot be trained on packs."""
        net, aim, conditions = stage.denoiser.net, stage.objective, stage.denoiser.conditions
        if not isinstance(net, TransformerConfig):
            raise UserError(
                f"denoiser.packing is of tokens, and the network is a {type(net).__name__}: take a TransformerConfig, "
                "or set packing to None"
            )
        if net.patch != (1, 1, 1) or net.mixing or net.previous or net.registers:
            raise UserError(
                "denoiser.packing needs a network that sees each latent cell by itself: set its patch to (1, 1, 1), "
                "mixing and previous to False, registers to 0"
            )
        if stage.latents.flips or stage.latents.crops > 1:
            raise UserError(
                "denoiser.packing takes one view of each clip: set denoiser.latents.flips to False, crops to 1"
            )
        if stage.align:
            raise UserError("denoiser.packing has no terms on features: leave out denoiser.align, or packing")
        if stage.denoiser.low:
            raise UserError("denoiser.packing has no place for a lower resolution: set packing to None")
        if taken := sorted({"position", "segment", "index", "frame", "first", "clip"} & conditions.keys()):
            raise UserError(f"'{taken[0]}' is said of packed tokens: call the condition by another name")
        if len({bucket.weight for bucket in stage.buckets}) > 1:
            raise UserError(
                "denoiser.packing takes clips of all buckets alike: leave the buckets' weights alone, and give clips "
                "weights when curating"
            )
        alike(stage.denoiser.process)
        PackedDenoising(aim, 1, 1)

    def fits(self, shapes: Sequence[Shape]) -> None:
        """Raises `UserError` for latents (t, h, w, c) that are longer than a row."""
        largest = max(shapes, key=_cells)
        if _cells(largest) > self.tokens:
            raise UserError(
                f"denoiser.packing.tokens is {self.tokens:,}, and latents of {'x'.join(map(str, largest[:3]))} are "
                f"{_cells(largest):,}: make rows as long"
            )

    def objective(self, of: Denoising, shapes: Sequence[Shape]) -> PackedDenoising:
        """What is minimised on clips whose latents have these shapes (t, h, w, c)."""
        return PackedDenoising(of, max(map(_cells, shapes)), max(shape[0] for shape in shapes))


def turns(
    stage: "DenoiserStage", given: Sequence[tuple["Bucket", ArraySource]], objective: Objective, seed: int,
    name: str,
) -> tuple[list[tuple[Source, int, float]], Objective]:  # fmt: skip
    """What batches are made of, as `loader` wants it, and what is minimised on them: `objective`, or that of packs.

    Says how many shapes there are, and how full rows are; `name` is what is trained.
    """
    shapes = [np.shape(source[0]["media"]) for _, source in given]
    number = len({(bucket.batch, shape) for (bucket, _), shape in zip(given, shapes, strict=True)})
    if (packing := stage.packing) is None:
        _say(name, f"batches of {number} shape{'s' * (number > 1)}, each compiled once")
        return [(source, bucket.batch, bucket.weight) for bucket, source in given], objective
    empty = {name: -1 for name, config in stage.denoiser.conditions.items() if isinstance(config, LabelConfig)}
    rows = PackedSource([source for _, source in given], packing.tokens, seed=seed, fill=empty | {SOURCE: -1})
    number = len(set(shapes))
    _say(
        name,
        f"clips of {number} shape{'s' * (number > 1)} in rows of {packing.tokens:,} tokens, {rows.filled:.0%} full: "
        "one shape of batches, compiled once",
    )
    return [(rows, packing.rows, 1.0)], packing.objective(stage.objective, shapes)


def _say(name: str, text: str) -> None:
    if jax.process_index() == 0:
        print(f"diorama: {name}: {text}", file=sys.stderr, flush=True)


def _cells(shape: Shape) -> int:
    return int(np.prod(shape[:3]))
