"""Technical measures of a decoded picture: exposure, sharpness, noise, compression, borders and the like.

`technical` gives one fixed row of numbers, `MEASURES`, for every clip; those of moving pictures and of sound are in
`diorama.data.stages.technical_video`. No measure needs weights, and none decides anything: thresholds stand in recipes
(`recipes/curate_stills.py`). They run in the decoding workers, so this module imports no JAX and nothing else of
`diorama.data` that does. Brightness is luma (BT.601), in levels of 0 to 255.

Where a picture has bars, all but the bars themselves is measured inside them: the edge of a bar is always sharp.
"""

import math
from collections.abc import Sequence
from functools import cache, lru_cache

import cv2
import numpy as np

from diorama.data.stages.technical_video import SOUND, VIDEO, Row, sound, video
from diorama.media.media import Media

FRAMES = 5  # of a clip, evenly spaced, on which the measures of pictures are taken
RISE, FALL = (161, 2000), (-2000, -161)  # 8 times the slope: steps steeper than 20 levels a pixel
EVIDENCE = 1.0  # levels a pixel, the weakest edges by which sharpness is judged
SHORT_SIDE = 512  # at which sharpness and text are judged: how a picture looks, not how many pixels its camera had

MOMENTS = np.arange(256.0) ** [[1], [2]]
AROUND = np.ones((3, 3), np.uint8)
SECOND = np.array([1, -2, 1], np.float32)  # second difference

PICTURE: dict[str, str] = {
    "brightness": "mean luma, 0 to 255",
    "contrast": "standard deviation of luma, 0 to 127.5",
    "shadows": "5th percentile of luma, 0 to 255",
    "highlights": "95th percentile of luma, 0 to 255",
    "black": "share of pixels clipped to black (luma at most 2), 0 to 1",
    "white": "share of pixels clipped to white (luma at least 253), 0 to 1",
    "entropy": "entropy of the histogram of luma, 0 to 8 bits",
    "colourfulness": "spread and strength of colour (Hasler & Süsstrunk), 0 (grey) to about 150",
    "chroma": "98th percentile of the largest less the smallest of R, G and B, 0 to 255",
    "edges": "slope of the strongest edges at a quarter of the size, levels a pixel: the evidence for sharpness",
    "sharpness": "energy of edges over that at a quarter of the size, softest way: 1.5 when blurred, 4 when sharp",
    "cutoff": "frequency below which the detail lies, as a share of the highest (Nyquist), 0 to 1; low when upscaled",
    "noise": "standard deviation of noise in smooth parts, levels",
    "blockiness": "step across a grid of 8 x 8 blocks over steps elsewhere; 1 has no grid",
    "bar_top": "uniform bar at the top, as a share of the height",
    "bar_bottom": "uniform bar at the bottom, as a share of the height",
    "bar_left": "uniform bar at the left, as a share of the width",
    "bar_right": "uniform bar at the right, as a share of the width",
    "bars": "the larger of the bars' shares of height (letterbox) and of width (pillarbox), 0 to 1",
    "text": "share of steep strokes in the fullest band of a word's size, beyond those around it, 0 to 1: a weak sign",
}
MEASURES: dict[str, str] = PICTURE | VIDEO | SOUND


def technical(media: Media) -> Row:
    """All `MEASURES` of a clip; None for what does not apply to it or has nothing to be judged by.

    Those of pictures are, for a clip of several frames, the medians over `FRAMES` evenly spaced ones.
    """
    rows = [_picture(media.frames[i]) for i in _evenly(len(media.frames), FRAMES)]
    row = rows[0] if len(rows) == 1 else {name: _median([r[name] for r in rows]) for name in PICTURE}
    return row | video(media.frames) | sound(media.sound, media.sound_rate, is_video=media.rate is not None)


@cache
def _evenly(t: int, n: int) -> tuple[int, ...]:
    """At most n of t frames, evenly spaced, the first and the last among them."""
    return tuple(sorted({round(i) for i in np.linspace(0, t - 1, min(t, n))}))


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if len(known) > 1 else known[0] if known else None


def _picture(frame: np.ndarray) -> Row:
    """The measures of one frame (h, w, 3) uint8."""
    luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    (top, bottom, left, right), inside = _bars(luma)
    luma, frame = luma[inside], frame[inside]
    h, w = luma.shape
    share = min(1.0, SHORT_SIDE / min(h, w))
    small = luma if share == 1 else cv2.resize(luma, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    half = _half(small)
    noise = _noise(small)
    row: Row = {"bar_top": top, "bar_bottom": bottom, "bar_left": left, "bar_right": right}
    row["bars"] = max(top + bottom, left + right)
    row |= _exposure(luma) | _colour(frame) | _sharpness(small, half, noise or 0.0)
    row["noise"] = noise if share == 1 else _noise(luma)
    row |= {"cutoff": _cutoff(luma), "blockiness": _blockiness(luma), "text": _text(half)}
    return {name: row[name] for name in PICTURE}


def _half(luma: np.ndarray) -> np.ndarray:
    h, w = (max(side // 2, 1) for side in luma.shape)
    return cv2.resize(luma, (w, h), interpolation=cv2.INTER_AREA)


def _exposure(luma: np.ndarray) -> Row:
    """Statistics of the histogram, to which some 64 rows contribute."""
    rows = luma[:: max(1, len(luma) // 64)]
    p = cv2.calcHist([rows], [0], None, [256], [0, 256]).ravel() / np.float64(rows.size)
    mean, square = (MOMENTS @ p).tolist()
    below = p.cumsum()
    shadows, highlights = below.searchsorted((0.05, 0.95)).tolist()
    some = p[p > 0]
    return {
        "brightness": mean,
        "contrast": math.sqrt(max(square - mean**2, 0.0)),
        "shadows": float(shadows),
        "highlights": float(highlights),
        "black": float(below[2]),
        "white": max(1 - float(below[252]), 0.0),
        "entropy": abs(float(some @ np.log2(some))),
    }


def _colour(frame: np.ndarray) -> Row:
    """Colourfulness (Hasler & Süsstrunk 2003, "Measuring colourfulness in natural images") and chroma.

    Both are statistics of single pixels, for which a sample on a grid of some 32 by 32 will do.
    """
    step = max(1, min(frame.shape[:2]) // 32)
    h, w = (-(-side // step) for side in frame.shape[:2])
    r, g, b = cv2.split(cv2.resize(frame, (w, h), interpolation=cv2.INTER_NEAREST))
    red_green = cv2.subtract(r, g, dtype=cv2.CV_16S)
    yellow_blue = cv2.subtract(cv2.add(r, g, dtype=cv2.CV_16S), cv2.add(b, b, dtype=cv2.CV_16S))  # twice
    mean, spread = cv2.meanStdDev(cv2.merge((red_green, yellow_blue)))
    (x, y), (dx, dy) = mean.ravel().tolist(), spread.ravel().tolist()
    spans = cv2.subtract(cv2.max(cv2.max(r, g), b), cv2.min(cv2.min(r, g), b)).ravel()
    rank = math.ceil(0.98 * len(spans)) - 1
    spans.partition(rank)
    return {
        "colourfulness": math.hypot(dx, dy / 2) + 0.3 * math.hypot(x, y / 2),
        "chroma": float(spans[rank]),
    }


def _sharpness(luma: np.ndarray, half: np.ndarray, noise: float) -> Row:
    """Energy of the gradient at full size over that at a quarter of it, around the strongest edges of the latter.

    Relative, as in a ratio of gradients before and after blurring once more (Zhuo & Sim 2011, "Defocus map estimation
    from a single image"): a step of width s, blurred by r more, has its energy reduced by s / hypot(s, r), whatever its
    height; so the ratio is 1 for wide edges and large for narrow ones. Motion softens the edges across it only: so both
    energies are matrices, the means of outer products of gradients (structure tensors), and the softest direction is
    their least generalised eigenvalue. A lens sets only its subject in focus: so the sharpest quadrant counts.
    """
    h, w = (side // 4 for side in luma.shape)
    if min(h, w) < 8:
        return {"edges": None, "sharpness": None}
    quarter = cv2.resize(half[: 2 * h, : 2 * w], (w, h), interpolation=cv2.INTER_AREA)
    coarse = _products(_gradient(quarter).astype(np.float32) / 32)  # levels a pixel of `luma`
    energy = coarse[0] + coarse[1]
    ranks = int(0.97 * energy.size), int(0.994 * energy.size)
    strong, strongest = np.partition(energy, ranks, axis=None)[[*ranks]]
    edges = math.sqrt(strongest)
    if edges < EVIDENCE:
        return {"edges": edges, "sharpness": None}
    cells = cv2.dilate((energy >= strong).view(np.uint8), AROUND).view(bool).ravel().nonzero()[0]
    # The gradient at full size, 8 times the slope, on every other row of those cells: four pixels are a 64-bit word.
    words = _gradient(np.ascontiguousarray(luma[: 4 * h, : 4 * w])).view(np.int64).reshape(2, -1)
    rows = (cells + 3 * w * (cells // w))[:, None] + np.array([0, 2 * w])
    fine = words.take(rows, 1).view(np.int16).astype(np.float32)
    quadrants = _quadrants(h, w).take(cells, 1)
    fine = (quadrants @ _products(fine)).sum(2) / 512  # means of 8, over 8 * 8
    coarse = (quadrants @ coarse.reshape(3, -1, 1).take(cells, 1))[..., 0]
    sums = fine.tolist() + coarse.tolist() + [quadrants.sum(1).tolist()]
    floor = 12 / 64 * noise**2  # the energy of noise: that of the gradient's weights, times its variance
    ratios = []
    for fxx, fyy, fxy, *tensor, n in zip(*sums, strict=True):
        if n >= max(20, 0.06 * len(cells)):
            ratios.append(_least_ratio((max(fxx - n * floor, 0.0), max(fyy - n * floor, 0.0), fxy), tensor))
    return {"edges": edges, "sharpness": max((ratio for ratio in ratios if ratio is not None), default=None)}


def _gradient(luma: np.ndarray) -> np.ndarray:
    """8 times the slope in x and in y, (2, h, w) int16."""
    both = np.empty((2, *luma.shape), np.int16)
    cv2.spatialGradient(luma, both[0], both[1])
    return both


def _products(gradient: np.ndarray) -> np.ndarray:
    """xx, yy and xy (3, ...) of x and y (2, ...)."""
    products = np.empty((3, *gradient.shape[1:]), np.float32)
    np.multiply(gradient, gradient, out=products[:2])
    np.multiply(gradient[0], gradient[1], out=products[2])
    return products


@lru_cache(maxsize=8)
def _quadrants(h: int, w: int) -> np.ndarray:
    """(4, h * w) float32: 1 where a cell is in the quadrant."""
    top, left = 2 * np.arange(h)[:, None] < h, 2 * np.arange(w) < w
    return np.array([top & left, top & ~left, ~top & left, ~(top | left)], np.float32).reshape(4, -1)


def _least_ratio(fine: Sequence[float], coarse: Sequence[float]) -> float | None:
    """The least r with det(fine - r * coarse) = 0, of symmetric matrices (xx, yy, xy); None without a least."""
    (fxx, fyy, fxy), (cxx, cyy, cxy) = fine, coarse
    a, b, c = cxx * cyy - cxy**2, 0.5 * (fxx * cyy + fyy * cxx) - fxy * cxy, fxx * fyy - fxy**2  # a r**2 - 2 b r + c
    root = math.sqrt(max(b * b - a * c, 0.0))
    return max(c / (b + root), 0.0) if b + root > 0 else None


def _text(half: np.ndarray) -> float | None:
    """Steep steps, both up and down, in a window of a word's size, beyond those above and below it.

    A word is a band of strokes; so are a fence and a row of windows. At half the size, which is steadier.
    """
    h, w = (side // 4 for side in half.shape)
    side = min(h, w)
    if side < 16:
        return None
    across, down = side // 4, side // 16
    dx, _ = cv2.spatialGradient(half)
    steep = (cv2.resize(cv2.inRange(dx, *ends), (w, h), interpolation=cv2.INTER_AREA) for ends in (RISE, FALL))
    both = cv2.min(*(cv2.blur(share, (across, down)) for share in steep))
    beyond = cv2.subtract(both[down:-down], cv2.addWeighted(both[: -2 * down], 0.5, both[2 * down :], 0.5, 0))
    return float(beyond.max()) / 255


def _noise(luma: np.ndarray) -> float | None:
    """Mean response to the difference of two Laplacians (Immerkaer 1996, "Fast noise variance estimation").

    It is taken in tiles of 16 x 16; the first quintile of them stands for the smooth parts, since texture answers too.
    """
    h, w = (side // 16 for side in luma.shape)
    if not h or not w:
        return None
    second = cv2.sepFilter2D(luma[: 16 * h, : 16 * w], cv2.CV_16S, SECOND, SECOND)
    runs = cv2.reduce(cv2.convertScaleAbs(second).reshape(-1, 16), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    tiles = np.sort(runs.reshape(h, 16, w).sum(1), axis=None)
    return math.sqrt(math.pi / 2) / 6 * float(tiles[len(tiles) // 5]) / 256


def _cutoff(luma: np.ndarray) -> float | None:
    """Where 99 % of the power of differences between neighbours lies, along 16 rows and 16 columns.

    Natural pictures' power falls as 1 / frequency**2, which differences make level; enlarging leaves the top empty.
    """
    h, w = luma.shape
    n = min(256, min(h, w) // 32 * 32)
    if not n:
        return None
    y, x = (h - n) // 2, (w - n) // 2
    rows = luma[h // 32 :: h // 16, x : x + n][:16]
    columns = luma[y : y + n, w // 32 :: w // 16][:, :16]
    lines = np.concatenate([rows, columns.T])
    # as one long line: the window leaves nothing of the step from a line to the next
    steps = np.zeros((32, n), np.float32)
    cv2.subtract(lines.ravel()[1:], lines.ravel()[:-1], steps.ravel()[:-1], dtype=cv2.CV_32F)
    packed = cv2.dft(cv2.multiply(steps, _window(n)), flags=cv2.DFT_ROWS)  # re 0, re 1, im 1, ..., re n / 2
    power = np.einsum("ij,ij->j", packed, packed)
    below = (power[1:-1:2] + power[2::2]).cumsum()
    return 2 / n * (1 + int(below.searchsorted(0.99 * below[-1]))) if below[-1] > 0 else None


@cache
def _window(n: int) -> np.ndarray:
    """(32, n): one for each line."""
    return np.tile(np.hanning(n).astype(np.float32), (32, 1))


def _blockiness(luma: np.ndarray) -> float | None:
    """Mean step between neighbours at the strongest of the 8 phases over the median phase.

    The geometric mean over rows and columns, since blocks have both; at any phase, since a crop moves the grid. Both
    means are raised by 2 levels, below which no grid is seen. Steps are cut at 64, so that one straight edge of the
    picture counts for little; lower, and the steps between blocks themselves would be cut.
    """
    h, w = luma.shape
    if min(h, w) < 32:
        return None
    across = cv2.threshold(cv2.absdiff(luma[:, 1:], luma[:, :-1]), 64, 0, cv2.THRESH_TRUNC)[1]
    down = cv2.threshold(cv2.absdiff(luma[1:], luma[:-1]), 64, 0, cv2.THRESH_TRUNC)[1]
    x = cv2.reduce(across, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() / h
    y = cv2.reduce(down, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() / w
    return float(np.sqrt(_grid(x) * _grid(y)))


def _grid(steps: np.ndarray) -> float:
    phases = np.sort(steps[: len(steps) // 8 * 8].reshape(-1, 8).sum(0)).tolist()
    raised = 2 * (len(steps) // 8)
    return (phases[7] + raised) / (0.5 * (phases[3] + phases[4]) + raised)


def _bars(luma: np.ndarray) -> tuple[tuple[float, float, float, float], tuple[slice, slice]]:
    """Uniform bars at the top, bottom, left and right as shares of height and width, and the picture inside them."""
    h, w = luma.shape
    top, bottom = _bar(luma), _bar(luma[::-1])
    left, right = _bar(luma.T), _bar(luma.T[::-1])
    inside = (slice(top, h - bottom), slice(left, w - right))
    return (top / h, bottom / h, left / w, right / w), inside


def _bar(luma: np.ndarray) -> int:
    """How many leading rows, fewer than half, are of one level up to a straight edge; 0 where there is none.

    The edge tells a bar from a plain ground: within a few rows, since a codec blurs it, most of a row departs.
    """
    first = luma[0]
    if cv2.meanStdDev(first)[1][0, 0] > 20:  # no bar, as in most pictures
        return 0
    few = len(first) // 50  # pixels of a row of a bar that may depart
    low, level, high = np.sort(first)[[few, len(first) // 2, -1 - few]].tolist()
    if high - low > 20:
        return 0
    departing = (np.abs(luma.astype(np.int16) - level) > 10).mean(1)
    uniform = departing <= 0.02
    if uniform.all():
        return 0
    size = int(np.argmin(uniform))
    if not 0 < size < len(luma) / 2:
        return 0
    beyond = np.abs(luma[size : size + 3].astype(np.int16) - luma[size - 1])
    return size if (beyond > 10).mean(1).max() >= 0.5 else 0
