"""An embedding that a catalogue learns from its own pictures: no weights from elsewhere."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.core.release import load, save
from diorama.data.embed.patches import PATCH, QUARTERS, STRIDE, Encoder, fit
from diorama.data.embed.pictures import embed, whole
from diorama.data.stages.stage import Batch

BATCH = 256  # pictures that are encoded at a time
LEAST = 64  # pictures to learn from


@dataclass(frozen=True)
class SelfSupervised:
    """Vectors of length 1 whose cosine says how alike clips look, by an encoder fitted to previews, without labels.

    It is fitted once (`patches.fit`), to `examples` clips at most, and kept, so that a clip that comes later is
    embedded by the same one. It tells kinds of pictures apart by shape and colour, roughly; `Pretrained` and `Onnx`
    bring encoders that know what things are. A video's vector is the mean over its previews. Needs the stage `Preview`.

    Args:
        examples: clips to learn from, at most.
        side: of the pictures that the encoder sees, in pixels. Thumbnails of 32 are enough to tell most scenes and
            objects (Torralba, Fergus & Freeman 2008, "80 million tiny images").
        filters: patches of the dictionary.
        width: numbers of a vector.
        seed: of everything random.
    """

    examples: int = 4096
    side: int = 32
    filters: int = 256
    width: int = 256
    seed: int = 0
    name: ClassVar[str] = "embedding"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"vector": np.ndarray}
    reads: ClassVar[tuple[str, ...]] = ("preview.images",)
    weights: ClassVar[tuple[Path, ...]] = ()

    def __post_init__(self) -> None:
        least = PATCH + STRIDE * (QUARTERS - 1)
        if self.side < least:
            raise UserError(f"an embedding sees pictures of at least {least} pixels a side, not {self.side}")
        if not 1 <= self.width <= 2 * self.filters * QUARTERS**2:
            raise UserError(f"{self.filters} filters give at most {2 * self.filters * QUARTERS**2} numbers a vector")

    def prepare(self, models: Path, sample: Callable[[int], pa.Table]) -> Batch:
        """As `Derived.prepare`. Raises `UserError` where there are too few pictures to learn from."""
        path = models / "encoder.safetensors"
        if not path.exists():
            pictures = list(self._pictures(sample(self.examples)["preview.images"]))
            if len(pictures) < LEAST:
                raise UserError(
                    f"an embedding is learned from the catalogue's own pictures, and {len(pictures)} are too few: "
                    f"curate at least {LEAST}, or take an encoder that is trained (Pretrained, Onnx)"
                )
            save(fit(np.stack(pictures), self.filters, self.width, self.seed), path)
        encoder = load(path, jax.eval_shape(partial(Encoder.blank, self.filters, self.width)))
        encode = jax.jit(lambda pictures: encoder(pictures.astype(jnp.float32) / 255))

        def padded(pictures: np.ndarray) -> np.ndarray:  # to one shape, which is compiled once
            rows = np.zeros((BATCH, *pictures.shape[1:]), np.uint8)
            rows[: len(pictures)] = pictures
            return np.asarray(encode(rows))[: len(pictures)]

        read = partial(whole, side=self.side)
        return lambda table: embed(table["preview.images"], read, padded, BATCH)

    def _pictures(self, previews: pa.ChunkedArray) -> Iterator[np.ndarray]:
        for images in previews.to_pylist():
            for data in images or ():
                try:
                    yield whole(data, self.side)
                except ValueError:
                    continue  # its clip has an error when it is embedded
