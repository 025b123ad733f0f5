"""Strips: videos stored as one picture with their frames side by side."""

import numpy as np

from diorama.media import BadMedia


def cut(picture: np.ndarray, frame_width: int) -> np.ndarray:
    """Cut a strip `(1, h, t * frame_width, c)` into frames `(t, h, frame_width, c)`.

    Raises `BadMedia` when it does not divide evenly.
    """
    n, h, w, c = picture.shape
    if n != 1 or w % frame_width:
        raise BadMedia(f"a strip of {w} pixels does not divide into frames of {frame_width}")
    return picture.reshape(h, w // frame_width, frame_width, c).transpose(1, 0, 2, 3)
