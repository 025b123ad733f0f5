"""Pictures and clips inside a page: HTML elements whose content is a data URI, so that the page is one file."""

import base64
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from diorama.media import scale, write_gif, write_mp4, write_png

TILE = 96  # pixels on the page along a clip's height
LARGEST = 2 * TILE  # pixels kept of a clip's shorter side, for dense screens


def uri(suffix: str, kind: str, write: Callable[[Path], None]) -> str:
    """What `write` writes to the path it is given, as a data URI of MIME type `kind`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        write(path)
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def shown(clip: np.ndarray, rate: float, alt: str = "", tile: int = TILE) -> Markup:
    """A clip (t, h, w, 3) uint8 as an element about `tile` pixels high: a still as PNG, a moving one looping.

    The pixels of small media are drawn as squares. A moving clip of at most 256 colours is a GIF, which shows those
    exactly; others are H.264, with each small pixel 2 x 2 or more so that colour keeps its resolution.
    """
    t, h, w, _ = clip.shape
    if min(h, w) > LARGEST:
        h, w = h * LARGEST // min(h, w), w * LARGEST // min(h, w)
        clip = scale(clip, h, w)
    times = round(tile / h) if 2 * h <= tile else 1  # whole squares, or smooth where they would be too large
    zoom = times if times > 1 else tile / h
    about = Markup('class="clip{}" width="{}" height="{}"').format(
        " px" if times > 1 else "", round(w * zoom), round(h * zoom)
    )
    if t > 1 and len(np.unique(clip.reshape(-1, 3), axis=0)) > 256:
        each = max(times, 2 if h <= tile else 1)
        large = clip.repeat(each, axis=1).repeat(each, axis=2)
        source = uri(".mp4", "video/mp4", lambda path: write_mp4(path, large, rate))
        video = '<video {} autoplay loop muted playsinline aria-label="{}" src="{}"></video>'
        return Markup(video).format(about, alt, source)
    if t > 1:
        source = uri(".gif", "image/gif", lambda path: write_gif(path, clip, rate))
    else:
        source = uri(".png", "image/png", lambda path: write_png(path, clip[0]))
    return Markup('<img {} alt="{}" src="{}">').format(about, alt, source)


def joined(clips: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Clips (t, h, w, 3) uint8 as one, so that they play together: axis 1 stacks them, axis 2 puts them side by side.

    One grey pixel stands between them.
    """
    line = np.take(clips[0], [0], axis=axis) * 0 + 128
    return np.concatenate([part for clip in clips for part in (line, clip)][1:], axis=axis)


def strip(clip: np.ndarray, alt: str = "", tile: int = TILE // 2, frames: int = 9) -> Markup:
    """Frames of a clip (t, h, w, 3) uint8, evenly spaced, side by side in one still."""
    picked = np.linspace(0, len(clip) - 1, min(len(clip), frames)).round().astype(int)
    return shown(joined([clip[i : i + 1] for i in picked], 2), 1.0, alt, tile)
