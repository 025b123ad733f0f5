"""Many clips in one picture."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diorama.media.write import write_png

_GAP = 4
_TEXT = 12  # height of a caption's letters in pixels
_LINES = 3  # of a caption, at most


def contact_sheet(
    clips: Sequence[np.ndarray],
    path: Path | str | None = None,
    columns: int | None = None,
    captions: Sequence[str] | None = None,
    frames: int = 1,
    smallest: int = 1,
) -> np.ndarray:
    """Clips (t, h, w, 3) uint8, of any sizes, side by side -> (H, W, 3) uint8; written to `path` as PNG if given.

    `frames` of each clip are shown in a row, evenly spaced in time. A caption stands below each clip, in up to `_LINES`
    lines of its width, and what goes beyond is cut.
    Clips with a side under `smallest` pixels are enlarged by a whole factor, pixels kept square.
    """
    times = [math.ceil(smallest / min(clip.shape[1:3])) for clip in clips]
    clips = [clip.repeat(k, axis=1).repeat(k, axis=2) for clip, k in zip(clips, times, strict=True)]
    strips = [np.concatenate(list(clip[_spaced(len(clip), frames)]), axis=1)[None] for clip in clips]
    sheet = grid(strips, columns, captions)[0]
    if path is not None:
        write_png(path, sheet)
    return sheet


def grid(clips: Sequence[np.ndarray], columns: int | None = None, captions: Sequence[str] | None = None) -> np.ndarray:
    """Clips (t, h, w, 3) uint8 playing side by side -> (T, H, W, 3) uint8; short ones hold their last frame."""
    if not clips:
        raise ValueError("a sheet needs at least one clip")
    if captions is not None and len(captions) != len(clips):
        raise ValueError(f"{len(captions)} captions for {len(clips)} clips")
    columns = min(columns or math.ceil(math.sqrt(len(clips))), len(clips))
    rows = math.ceil(len(clips) / columns)
    t, h, w = (max(clip.shape[axis] for clip in clips) for axis in range(3))
    lines = [_wrapped(caption, w) for caption in captions or ()]
    below = (_TEXT + 4) * max(map(len, lines), default=0)
    out = np.full((t, rows * (h + below + _GAP) + _GAP, columns * (w + _GAP) + _GAP, 3), 255, np.uint8)
    for i, clip in enumerate(clips):
        y, x = _GAP + (i // columns) * (h + below + _GAP), _GAP + (i % columns) * (w + _GAP)
        top, left = y + (h - clip.shape[1]) // 2, x + (w - clip.shape[2]) // 2
        held = clip[np.minimum(np.arange(t), len(clip) - 1)]
        out[:, top : top + clip.shape[1], left : left + clip.shape[2]] = held
        if captions is not None:
            out[:, y + h : y + h + below, x : x + w] = _text(lines[i], below, w)
    return out


def _spaced(t: int, frames: int) -> np.ndarray:
    return np.round(np.linspace(0, t - 1, frames)).astype(int) if frames > 1 else np.array([t // 2])


def _wrapped(caption: str, w: int) -> list[str]:
    """The caption's words in lines of at most `w` pixels, unless a word alone is wider; at least one line."""
    font, lines = ImageFont.load_default(_TEXT), [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.getlength(longer) > w:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines[:_LINES]


def _text(lines: list[str], h: int, w: int) -> np.ndarray:
    image = Image.new("RGB", (w, h), "white")
    font = ImageFont.load_default(_TEXT)
    for i, line in enumerate(lines):
        ImageDraw.Draw(image).text((0, 1 + i * (_TEXT + 4)), line, fill=(40, 40, 40), font=font)
    return np.asarray(image)
