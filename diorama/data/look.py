"""What curation notes about a clip once it is decoded.

`look` runs in the decoding workers, so that only this note and no pixels crosses over. They must stay small: this
module imports neither the rest of `diorama.data` nor anything that loads JAX.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from diorama.media import Media


@dataclass(frozen=True)
class Seen:
    """A decoded clip in short."""

    t: int
    h: int
    w: int
    pixels: str  # hash of the frames and their shape
    rate: float | None  # frames per second
    sound: bool
    format: str | None


def look(media: Media) -> Seen:
    """Note what a clip is."""
    t, h, w, _ = media.frames.shape
    digest = hashlib.blake2b(np.ascontiguousarray(media.frames).data, digest_size=16)
    digest.update(f"{t} {h} {w}".encode())
    return Seen(t, h, w, digest.hexdigest(), media.rate, media.sound is not None, media.info.get("format"))
