"""Perceptual hashes: 64 bits that stay nearly the same when a picture is encoded again, scaled or retouched.

A hash is the signs of the lowest frequencies of the cosine transform of a 64 x 64 grey thumbnail: alike are pictures
of which few bits differ. (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions",
compares coefficients with their median; the sign does as well, and makes mirroring exact: it flips the odd columns.)
Ten parts of the picture are hashed beside the whole: one of a crop's hashes is then near one of the original's.

This runs in the decoding workers: it imports neither the rest of `diorama.data` nor anything that loads JAX.
"""

from functools import cache

import cv2
import numpy as np

from diorama.media import Media

SIDE = 64  # of a thumbnail
WAVES = 8  # frequencies along an axis; bit 8 v + u is the sign of frequency (v, u), bit 0 says that there is a hash
FAINT = 2.0  # standard deviation, in grey levels, of those frequencies below which there is nothing to hash
RATE = 1.0  # frames a second that stand for a video
LINE = 256  # pixels along the shorter side at which bars are looked for
FLAT = 12  # grey levels by which a bar's pixels may differ from its mean
STEP = 16  # grey levels by which what follows a bar differs from it
KEPT = 0.4  # of height or width, at least, between bars

# What each hash shows, (left, top, right, bottom) in shares of the thumbnail: the whole; the whole mirrored, that is
# from right to left; and ten parts, which were picked one by one to find the most of a generated set of crops.
BOXES = np.array(
    [
        [0, 0, 1, 1],
        [1, 0, 0, 1],
        [0.00, 0.00, 0.90, 0.93],
        [0.00, 0.07, 0.86, 1.00],
        [0.00, 0.10, 1.00, 1.00],
        [0.07, 0.00, 1.00, 0.90],
        [0.10, 0.00, 0.90, 1.00],
        [0.10, 0.10, 0.90, 0.90],
        [0.10, 0.10, 1.00, 1.00],
        [0.10, 0.14, 0.90, 0.86],
        [0.10, 0.14, 0.90, 1.00],
        [0.14, 0.10, 1.00, 0.90],
    ]
)
WHOLE, MIRRORED = 0, 1
ODD_COLUMNS = np.uint64(sum(1 << bit for bit in range(64) if bit % 2))


def hashes(frame: np.ndarray) -> np.ndarray:
    """The hashes (12,) uint64 of a frame (h, w, 3) uint8 RGB, of the BOXES of what lies between its bars.

    0 stands for a part with nothing to hash: flat, or fainter than FAINT. Every other hash is odd.
    """
    return hash_thumbnails(thumbnail(frame)[None])[0]


def signature(media: Media) -> tuple[np.ndarray, np.ndarray]:
    """What near-duplicates of a clip are found by: hashes (n, 12) uint64 and thumbnails (n, 64, 64) uint8.

    n is 1 for a still, and for a video the number of its frames at 0, 1, 2, ... seconds.
    """
    t = len(media.frames)
    step = max((media.rate or t) / RATE, 1.0)
    picked = np.minimum(np.arange(0, t, step).round().astype(int), t - 1)
    thumbnails = np.stack([thumbnail(media.frames[k]) for k in picked])
    return hash_thumbnails(thumbnails), thumbnails


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """A frame (h, w, 3) uint8 RGB without its bars, as (64, 64) uint8 grey, squashed to a square."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    share = LINE / min(grey.shape)
    if share < 1:
        grey = cv2.resize(grey, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    top, bottom = _between_bars(grey)
    left, right = _between_bars(grey[top:bottom].T)
    return cv2.resize(grey[top:bottom, left:right], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def hash_thumbnails(thumbnails: np.ndarray) -> np.ndarray:
    """The hashes (n, 12) uint64 of thumbnails (n, 64, 64) uint8."""
    rows, columns, pick = _transforms()
    waves = (rows @ thumbnails.astype(np.float32) @ columns.T).reshape(len(thumbnails), -1)[:, pick]
    waves[..., 0] = 0  # the mean
    heard = (waves**2).sum(-1) >= FAINT**2
    signs = waves > 0
    signs[..., 0] = True
    bits = np.packbits(signs, axis=-1, bitorder="little").view("<u8")[..., 0].astype(np.uint64)
    bits = np.where(heard, bits, np.uint64(0))
    mirrored = np.where(heard[:, :1], bits[:, :1] ^ ODD_COLUMNS, np.uint64(0))
    return np.concatenate([bits[:, :1], mirrored, bits[:, 1:]], -1)


@cache
def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosine transforms of all boxes at once: those of rows (., 64), of columns (., 64), and where each box's lie.

    The third, (11, 64), says which entries of the flattened `rows @ thumbnail @ columns.T` belong to a box; the
    mirrored one is left out.
    """
    boxes = np.delete(BOXES, MIRRORED, axis=0)
    across, x = np.unique(boxes[:, [0, 2]], axis=0, return_inverse=True)
    down, y = np.unique(boxes[:, [1, 3]], axis=0, return_inverse=True)
    rows, columns = (np.concatenate([_cosines(*span) for span in spans]) for spans in (down, across))
    wave = np.arange(WAVES)
    pick = (y[:, None, None] * WAVES + wave[:, None]) * len(columns) + x[:, None, None] * WAVES + wave
    return rows, columns, pick.reshape(len(boxes), -1)


def _cosines(start: float, stop: float) -> np.ndarray:
    """The lowest WAVES cosines (., 64) float32 over a part of an axis, each with the mean square of its coefficient."""
    edges = np.clip(np.arange(SIDE + 1) / SIDE, start, stop)
    share = np.diff(edges) / (stop - start)  # of the part that a pixel covers
    centre = ((edges[1:] + edges[:-1]) / 2 - start) / (stop - start)
    waves = share * np.cos(np.pi * np.arange(WAVES)[:, None] * centre) * np.sqrt(2)
    waves[0] = share
    waves[1:] -= share * waves[1:].sum(-1, keepdims=True)  # deaf to the mean in spite of rounding
    return waves.astype(np.float32)


def _between_bars(grey: np.ndarray) -> tuple[int, int]:
    """The rows of grey (h, w) uint8 that lie between bars of one shade at top and bottom; all where it has none."""
    h = len(grey)
    top, bottom = _bar(grey), _bar(grey[::-1])
    return (top, h - bottom) if h - top - bottom >= KEPT * h else (0, h)


def _bar(grey: np.ndarray) -> int:
    """How many of the first rows of grey (h, w) are a bar: of one shade, and followed by something else."""
    low, high = float(grey[0].min()), float(grey[0].max())
    if high - low > 2 * FLAT:  # no bar, as in most pictures
        return 0
    shade = float(grey[0].mean())
    if high - shade > FLAT or shade - low > FLAT:
        return 0
    plain = (grey.max(1) - shade <= FLAT) & (shade - grey.min(1) <= FLAT)
    run = len(grey) if plain.all() else int(plain.argmin())
    after = grey[run : run + max(len(grey) // 32, 1)]
    return run if after.size and np.abs(after - shade).mean() >= STEP else 0
