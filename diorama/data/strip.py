"""Strips: videos stored as one picture with their frames side by side."""

import numpy as np

from diorama.media import BadMedia


def strip_shape(t: int, w: int, frame_width: int) -> tuple[int, int]:
    """The frames and their width of a strip `w` pixels wide. Raises `BadMedia` when it does not divide evenly."""
    if t != 1 or w % frame_width:
        raise BadMedia(f"a strip of {w} pixels does not divide into frames of {frame_width}")
    return w // frame_width, frame_width


def cut(strip: np.ndarray, frame_width: int) -> np.ndarray:
    """Cut a strip `(1, h, t * frame_width, c)` into frames `(t, h, frame_width, c)`."""
    one, h, w, c = strip.shape
    t, w = strip_shape(one, w, frame_width)
    return strip.reshape(h, t, w, c).transpose(1, 0, 2, 3)
