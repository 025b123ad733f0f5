"""Strips: videos stored as one picture with their frames side by side."""

from dataclasses import dataclass

import numpy as np

from diorama.media import BadMedia


@dataclass(frozen=True)
class Claim:
    """What is said about how a picture is cut: the width of its frames, or their number and width as a mere hint."""

    frame_width: int | None = None
    hint: tuple[int, int] | None = None  # followed only where it fits

    def width(self, t: int, w: int) -> int | None:
        """The frame width of a picture of `t` frames, `w` pixels wide; None if it is no strip."""
        if self.frame_width:
            return self.frame_width
        if self.hint and self.hint[0] > 1 and t == 1 and w == self.hint[0] * self.hint[1]:
            return self.hint[1]
        return None


def cut(strip: np.ndarray, frame_width: int) -> np.ndarray:
    """Cut a strip `(1, h, t * frame_width, c)` into frames `(t, h, frame_width, c)`.

    Raises `BadMedia` when it does not divide evenly.
    """
    t, h, w, c = strip.shape
    if t != 1 or w % frame_width:
        raise BadMedia(f"a strip of {w} pixels does not divide into frames of {frame_width}")
    return strip.reshape(h, w // frame_width, frame_width, c).transpose(1, 0, 2, 3)
