"""Small pictures of every clip: what people look at, and what embeddings are made of, without decoding it again.

It runs in the decoding workers: it imports neither the rest of `diorama.data` nor anything that loads JAX.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from diorama.media import Media, center_crop, resize

THUMBNAIL = 160  # pixels along the shorter side; a cell of the page measures 140 to 160, as it opens
LONGEST = 2  # times that along the longer one; the rest is cut off
_QUALITY = 80


@dataclass(frozen=True)
class Preview:
    """Frames as JPEG, their shorter side at most `side` pixels: the middle one of a still, `frames` of a video.

    A video's lie evenly over time, each in the middle of its share; `at` is their numbers. `thumbnail` is the one in
    the middle of `images`, smaller; see the function of that name.
    """

    side: int = 224
    frames: int = 4
    quality: int = 90
    name: ClassVar[str] = "preview"
    version: ClassVar[int] = 2
    columns: ClassVar[dict[str, Any]] = {"images": list[bytes], "thumbnail": bytes, "at": list[int]}

    def __call__(self, media: Media) -> dict[str, Any]:
        """As `Stage`."""
        t, h, w, _ = media.frames.shape
        count = min(self.frames, t)
        at = [int((2 * k + 1) * t / (2 * count)) for k in range(count)]
        share = min(self.side / min(h, w), 1.0)
        size = max(round(h * share), 1), max(round(w * share), 1)
        small = resize(media.frames[at], *size) if share < 1 else media.frames[at]
        images = [_jpeg(frame, self.quality) for frame in small]
        return {"images": images, "thumbnail": thumbnail(small[count // 2]), "at": at}


def thumbnail(frame: np.ndarray) -> bytes:
    """A frame (h, w, 3) uint8 as a JPEG for a list of many: its shorter side at most `THUMBNAIL` pixels, and its longer
    one at most `LONGEST` times the shorter, the middle of it."""
    short = min(frame.shape[:2])
    h, w = (min(side, LONGEST * short) for side in frame.shape[:2])
    share = min(THUMBNAIL / short, 1.0)
    size = round(w * share), round(h * share)
    return _jpeg(cv2.resize(center_crop(frame, h, w), size, interpolation=cv2.INTER_AREA), _QUALITY)


def _jpeg(frame: np.ndarray, quality: int) -> bytes:
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
