"""Sizes and crops of frames (t, h, w, 3) uint8."""

import numpy as np
from PIL import Image


def resize(frames: np.ndarray, h: int, w: int) -> np.ndarray:
    """Scale frames (t, H, W, 3), keeping their aspect, to the least size that covers h x w (antialiased bicubic).

    One side of the result is exact, the other at least as large; `center_crop` or `crop` takes the rest off.
    """
    height, width = cover(frames.shape[1], frames.shape[2], h, w)
    return scale(frames, height, width)


def cover(height: int, width: int, h: int, w: int) -> tuple[int, int]:
    """The least size with the aspect of height x width that covers h x w."""
    if height * w <= width * h:  # the height is the tighter side
        return h, max(w, round(width * h / height))
    return max(h, round(height * w / width)), w


def scale(frames: np.ndarray, h: int, w: int) -> np.ndarray:
    """Frames (t, H, W, 3) at exactly h x w, aspect or not (antialiased bicubic)."""
    if frames.shape[1:3] == (h, w):
        return frames
    out = np.empty((len(frames), h, w, 3), np.uint8)
    for i, frame in enumerate(frames):
        image = Image.fromarray(np.ascontiguousarray(frame))
        out[i] = np.asarray(image.resize((w, h), Image.Resampling.BICUBIC, reducing_gap=3.0))
    return out


def crop(frames: np.ndarray, y: int, x: int, h: int, w: int) -> np.ndarray:
    """The h x w window of frames (..., H, W, c) whose upper left corner is at (y, x)."""
    height, width = frames.shape[-3:-1]
    if y < 0 or x < 0 or y + h > height or x + w > width:
        raise ValueError(f"a {h}x{w} crop at ({y}, {x}) leaves the {height}x{width} frame")
    return frames[..., y : y + h, x : x + w, :]


def center_crop(frames: np.ndarray, h: int, w: int) -> np.ndarray:
    """The h x w window in the middle of frames (..., H, W, c)."""
    height, width = frames.shape[-3:-1]
    return crop(frames, (height - h) // 2, (width - w) // 2, h, w)
