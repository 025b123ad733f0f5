"""From previews to embeddings: what every embedder does around its encoder.

An embedder is a derived stage called "embedding", so that clusters, scores and rules find its vectors whichever it is.
For two of them in one policy, give the second a name of its own:

    @dataclass(frozen=True)
    class Structure(Pretrained):
        name: ClassVar[str] = "structure"

and say `vectors="structure.vector"` to what reads it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from diorama.media.resize import scale

Read = Callable[[bytes], np.ndarray]  # an encoded preview -> what the encoder takes of it
Encode = Callable[[np.ndarray], np.ndarray]  # (b, ...) of those -> vectors (b, d)


def picture(data: bytes) -> np.ndarray:
    """An encoded preview as (h, w, 3) uint8. Raises ValueError where it is none."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if decoded is None:
        raise ValueError("the preview cannot be decoded")
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)


def whole(data: bytes, side: int) -> np.ndarray:
    """An encoded preview as (side, side, 3) uint8, its aspect given up so that nothing of it is cut off."""
    return scale(picture(data)[None], side, side)[0]


def embed(previews: pa.ChunkedArray, read: Read, encode: Encode, batch: int) -> dict[str, list[Any]]:
    """Columns `vector` and `error` of clips by their previews (n lists of encoded pictures).

    A vector is the mean over a clip's previews of what `encode` gives for each, of length 1 and so the mean itself;
    null without previews. `encode` sees at most `batch` pictures at a time.
    """
    lists = previews.to_pylist()
    vectors: list[np.ndarray | None] = [None] * len(lists)
    errors: list[str | None] = [None] * len(lists)
    owned = ((k, data) for k, datas in enumerate(lists) for data in datas or [])
    sums: dict[int, np.ndarray] = {}
    for part in _readable(owned, read, batch, errors):
        for (k, _), vector in zip(part, encode(np.stack([x for _, x in part])), strict=True):
            sums[k] = sums.get(k, 0.0) + unit(vector)
    for k, total in sums.items():
        if not np.isfinite(total).all():
            errors[k] = "the encoder gave numbers that are not finite"
        elif errors[k] is None:
            vectors[k] = unit(total)
    return {"vector": vectors, "error": errors}


def unit(vector: np.ndarray) -> np.ndarray:
    """A vector (..., d) of length 1, float32; one of length 0 stays."""
    vector = np.asarray(vector, np.float32)
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-12)


def _readable(
    owned: Iterable[tuple[int, bytes]], read: Read, batch: int, errors: list[str | None]
) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Batches of (clip, picture); what cannot be read becomes its clip's error."""

    def pictures() -> Iterator[tuple[int, np.ndarray]]:
        for k, data in owned:
            try:
                yield k, read(data)
            except (ValueError, cv2.error) as error:
                errors[k] = str(error)

    source = pictures()
    while part := list(islice(source, batch)):
        yield part
