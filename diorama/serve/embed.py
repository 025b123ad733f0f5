"""Pictures and clips inside a page: HTML elements whose content is a data URI, so that the page is one file."""

import base64
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from markupsafe import Markup

from diorama.media import scale, write_gif, write_mp4, write_png

LARGEST = 192  # pixels of the shorter side; larger media are scaled down to it


def uri(suffix: str, kind: str, write: Callable[[Path], None]) -> str:
    """What `write` writes to the path it is given, as a data URI of MIME type `kind`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        write(path)
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def shown(clip: np.ndarray, rate: float, side: int = 96, alt: str = "") -> Markup:
    """A clip (t, h, w, 3) uint8 as an element about `side` pixels high: a still as PNG, a moving one looping.

    Small media keep their own pixels, drawn as squares. A moving clip of at most 256 colours is a GIF, which shows
    those exactly; others are H.264, with each pixel at least 2 x 2 so that colour keeps its resolution.
    """
    t, h, w, _ = clip.shape
    if min(h, w) > LARGEST:
        h, w = h * LARGEST // min(h, w), w * LARGEST // min(h, w)
        clip = scale(clip, h, w)
    zoom = side / h if h > side else max(1, round(side / h))
    size = Markup('width="{}" height="{}"').format(round(w * zoom), round(h * zoom))
    if t == 1:
        source = uri(".png", "image/png", lambda path: write_png(path, clip[0]))
    elif len(np.unique(clip.reshape(-1, 3), axis=0)) <= 256:
        source = uri(".gif", "image/gif", lambda path: write_gif(path, clip, rate))
    else:
        times = max(2, zoom) if zoom >= 1 else 1
        large = clip.repeat(int(times), axis=1).repeat(int(times), axis=2)
        source = uri(".mp4", "video/mp4", lambda path: write_mp4(path, large, rate))
        return Markup('<video class="px" autoplay loop muted playsinline {} aria-label="{}" src="{}"></video>').format(
            size, alt, source
        )
    return Markup('<img class="px" {} alt="{}" src="{}">').format(size, alt, source)


def strip(clip: np.ndarray, side: int = 64, alt: str = "") -> Markup:
    """The frames of a clip (t, h, w, 3) uint8 side by side in one still, one empty pixel between them."""
    apart = np.pad(clip, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=128)
    return shown(np.concatenate(list(apart), axis=1)[None, :, :-1], 1.0, side, alt)
