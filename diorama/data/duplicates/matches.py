"""Two clips: which of their frames match by hashes, and whether thumbnails laid over each other bear that out.

All here depends on the two clips alone, each given as hashes (n, 12) uint64 and thumbnails (n, 64, 64) uint8, so that
what was found once holds whichever other clips there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diorama.data.duplicates.alignment import box_map, lay, motion
from diorama.data.stages.hashes import BOXES, MIRRORED

SCORE = 0.8
SHARE = 0.6
MOTION = 0.5
NONE = 65  # bits between what has no hash, or must not meet, and anything else
BLOCK = 1 << 22  # hashes compared at a time


@dataclass(frozen=True)
class Match:
    """Frames (m,) of one clip and of another that look alike: f with g, by box a of f and box b of g, `distance` bits
    apart. shorter: frames of the shorter clip."""

    f: np.ndarray
    g: np.ndarray
    a: np.ndarray
    b: np.ndarray
    distance: np.ndarray
    shorter: int


@dataclass(frozen=True)
class Outcome:
    """What verification says of two clips: the fewest bits between frames that match, the median correlation of those
    laid over each other, and their share of the shorter clip's frames."""

    distance: int
    score: float
    share: float


def match(first: np.ndarray, second: np.ndarray, reach: int, mirrored: bool) -> Match | None:
    """The frames with hashes within `reach` bits, at the shift in time that most of them agree on; None below SHARE.

    A still meets stills only. Each two frames meet once, by their nearest boxes; of several shifts with as many frames
    the smallest counts. mirrored: frames that mirror each other match too.
    """
    if (len(first) == 1) != (len(second) == 1):
        return None
    distance, boxes = _nearest(first, second, mirrored)
    f, g = np.nonzero(distance <= reach)
    shifts, votes = np.unique(g - f, return_counts=True)
    shorter = min(len(first), len(second))
    if not len(votes) or votes.max() < SHARE * shorter:
        return None
    likely = shifts[votes == votes.max()]
    agreed = g - f == likely[np.abs(likely).argmin()]
    f, g = f[agreed], g[agreed]
    a, b = np.divmod(boxes[f, g], len(BOXES))
    return Match(f, g, a, b, distance[f, g].astype(np.int64), shorter)


def verify(matches: Sequence[Match], first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> list[Outcome | None]:
    """By the thumbnails of two clips each, whether frames that match show the same; None where they do not.

    SHARE of the frames must reach SCORE; and of a video, what changes over time must reach MOTION, else all clips of
    one camera that stands still would be copies.
    """
    if not matches:
        return []
    a = np.concatenate([x[m.f] for m, x in zip(matches, first, strict=True)])
    b = np.concatenate([x[m.g] for m, x in zip(matches, second, strict=True)])
    fit = lay(a, b, np.concatenate([box_map(BOXES[m.a], BOXES[m.b]) for m in matches]))
    outcomes: list[Outcome | None] = []
    stop = 0
    for m in matches:
        start, stop = stop, stop + len(m.f)
        good = start + np.flatnonzero(fit.scores[start:stop] >= SCORE)
        share = len(good) / m.shorter
        if share >= SHARE and motion(a[good], b[good], fit.maps[good]) >= MOTION:
            outcomes.append(Outcome(int(m.distance[good - start].min()), float(np.median(fit.scores[good])), share))
        else:
            outcomes.append(None)
    return outcomes


def _nearest(first: np.ndarray, second: np.ndarray, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of every two frames, the fewest bits between their boxes (n, m) uint8, and which two, as 12 a + b (n, m)."""
    k = len(BOXES)
    barred = np.zeros((k, k), bool)
    barred[MIRRORED, MIRRORED] = True  # says no more than the whole with the whole
    if not mirrored:
        barred[MIRRORED], barred[:, MIRRORED] = True, True
    rows = max(BLOCK // (len(second) * k * k), 1)
    distances, boxes = [], []
    for start in range(0, len(first), rows):
        a, b = first[start : start + rows, None, :, None], second[None, :, None, :]
        far = np.where((a == 0) | (b == 0) | barred, np.uint8(NONE), np.bitwise_count(a ^ b))
        far = far.reshape(*far.shape[:2], k * k)
        distances.append(far.min(-1))
        boxes.append(far.argmin(-1))
    return np.concatenate(distances), np.concatenate(boxes)
