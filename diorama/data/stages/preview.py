"""Small pictures of every clip: what people look at, and what embeddings are made of, without decoding it again.

It runs in the decoding workers: it imports neither the rest of `diorama.data` nor anything that loads JAX.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from diorama.media import Media, resize


@dataclass(frozen=True)
class Preview:
    """Frames as JPEG, their shorter side at most `side` pixels: the middle one of a still, `frames` of a video.

    A video's lie evenly over time, each in the middle of its share; `at` is their numbers.
    """

    side: int = 224
    frames: int = 4
    quality: int = 90
    name: ClassVar[str] = "preview"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"images": list[bytes], "at": list[int]}

    def __call__(self, media: Media) -> dict[str, Any]:
        """As `Stage`."""
        t, h, w, _ = media.frames.shape
        count = min(self.frames, t)
        at = [int((2 * k + 1) * t / (2 * count)) for k in range(count)]
        share = min(self.side / min(h, w), 1.0)
        size = max(round(h * share), 1), max(round(w * share), 1)
        small = resize(media.frames[at], *size) if share < 1 else media.frames[at]
        return {"images": [self._jpeg(frame) for frame in small], "at": at}

    def _jpeg(self, frame: np.ndarray) -> bytes:
        return cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1].tobytes()
