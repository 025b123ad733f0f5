"""How well two thumbnails show the same picture once one is laid over the other.

`lay` finds the affine map that does so, by Gauss-Newton steps on images from which both slow shading and fine noise
are filtered, coarse to fine, with gain and offset of the brightness among the unknowns (Lucas & Kanade 1981, "An
iterative image registration technique"; the compositional form and its averaged gradients are Malis 2004, "Improving
vision-based control using efficient second-order minimization techniques"). The score is the correlation of what
overlaps, without the cells that fit worst, where a logo or a caption may sit.

Coordinates are (x, y) in [-1, 1], the outer edges of the thumbnail. A map (2, 3) sends a point of the first thumbnail,
with a 1 appended, to the point of the second that shows the same. All functions work on many pairs at once.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

CHUNK = 16  # pairs at a time; what they need stays in the cache
COARSE = (32, 0.75, 3.0, 6)  # pixels along a side, blur of noise and of shading in these pixels, steps
FINE = (64, 0.6, 1.5, 3)
HOPELESS = 0.5  # correlation after the coarse steps below which no fine ones follow
CELLS, DROPPED = 8, 0.12  # cells along a side; share of them dropped
FAINT = 0.2  # grey levels of standard deviation below which a filtered thumbnail holds nothing to compare
OVERLAP = 0.4  # of both thumbnails
SCALES, SLANT = (0.6, 1.67), 0.2  # bounds of the map's diagonal, and of what lies off it
LARGEST = 0.15  # change of a map's entry in one step
FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
STILL = 2.0  # grey levels of change over time below which nothing moves
NOISE = 0.5  # grey levels of local standard deviation around which structure begins to count in full


@dataclass(frozen=True)
class Fit:
    """What `lay` found: scores (p,) float32 in [-1, 1], 0 where the thumbnails cannot be compared; maps (p, 2, 3)."""

    scores: np.ndarray
    maps: np.ndarray


def lay(first: np.ndarray, second: np.ndarray, start: np.ndarray) -> Fit:
    """Lay pairs of thumbnails (p, 64, 64) uint8 over each other, from the maps `start` (p, 2, 3) on."""
    fits = [
        _lay(first[k : k + CHUNK], second[k : k + CHUNK], start[k : k + CHUNK].astype(np.float32))
        for k in range(0, len(first), CHUNK)
    ]
    if not fits:
        return Fit(np.zeros(0, np.float32), np.zeros((0, 2, 3), np.float32))
    return Fit(np.concatenate([fit.scores for fit in fits]), np.concatenate([fit.maps for fit in fits]))


def motion(first: np.ndarray, second: np.ndarray, maps: np.ndarray) -> float:
    """Correlation of what changes from frame to frame in (k, 64, 64) uint8 and, seen through `maps`, in another k.

    Clips of one camera that does not move share all but that. 1 where next to nothing changes in either.
    """
    a = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in first.astype(np.float32)])
    b = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in second.astype(np.float32)])
    b, inside = _sample(b, maps.astype(np.float32))
    weight = inside.min(0)
    a, b = ((x - x.mean(0)) * weight for x in (a, b))
    aa, bb, ab = float((a * a).sum()), float((b * b).sum()), float((a * b).sum())
    still = STILL**2 * max(float(weight.sum()), 1.0) * len(a)
    return 1.0 if max(aa, bb) < still else ab / max(np.sqrt(aa * bb), 1e-6)


def box_map(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Maps (p, 2, 3) that send boxes (p, 4) to boxes (p, 4), each (left, top, right, bottom) in shares."""
    scale = (second[:, 2:] - second[:, :2]) / (first[:, 2:] - first[:, :2])
    shift = second[:, 2:] + second[:, :2] - 1 - scale * (first[:, 2:] + first[:, :2] - 1)
    maps = np.zeros((len(first), 2, 3), np.float32)
    maps[:, [0, 1], [0, 1]], maps[:, :, 2] = scale, shift
    return maps


def _lay(first: np.ndarray, second: np.ndarray, maps: np.ndarray) -> Fit:
    side, noise, shading, steps = COARSE
    a, b = _filter(first, side, noise, shading)[0], _filter(second, side, noise, shading)[0]
    maps = _refine(a, b, maps, steps)
    scores = np.zeros(len(maps), np.float32)
    alive = np.flatnonzero(_plausible(maps) & (_score(a, b, maps) >= HOPELESS))
    side, noise, shading, steps = FINE
    (a, loud_a), (b, loud_b) = (_filter(x[alive], side, noise, shading) for x in (first, second))
    maps[alive] = _refine(a, b, maps[alive], steps)
    scores[alive] = np.where(loud_a & loud_b & _plausible(maps[alive]), _score(a, b, maps[alive]), 0)
    return Fit(scores, maps)


def _filter(thumbnails: np.ndarray, side: int, noise: float, shading: float) -> tuple[np.ndarray, np.ndarray]:
    """Thumbnails between two blurs, reduced to (p, side, side), of even contrast; and which hold anything."""
    filtered = np.empty((len(thumbnails), side, side), np.float32)
    loud = np.empty(len(thumbnails), bool)
    for k, thumbnail in enumerate(thumbnails.astype(np.float32)):
        reduced = cv2.resize(thumbnail, (side, side), interpolation=cv2.INTER_AREA)
        band = cv2.GaussianBlur(reduced, (0, 0), noise) - cv2.GaussianBlur(reduced, (0, 0), shading)
        loud[k] = band.std() >= FAINT
        filtered[k] = band / (np.sqrt(cv2.GaussianBlur(band * band, (0, 0), shading)) + NOISE)
    spread = filtered.std((1, 2), keepdims=True)
    return filtered / np.maximum(spread, 1e-3), loud


def _refine(a: np.ndarray, b: np.ndarray, maps: np.ndarray, steps: int) -> np.ndarray:
    """Gauss-Newton: a = gain * b(map) + offset; each step solves for gain, offset and a small map composed before."""
    p, pixels = len(a), a.shape[-1] ** 2
    x, y = (axis.reshape(-1) for axis in _grid(a.shape[-1]))
    slopes_a = _slopes(a)
    columns = np.ones((p, 8, pixels), np.float32)  # by which the pixels change with each unknown
    for _ in range(steps):
        warped, inside = _sample(b, maps)
        for k, (slope_a, slope_b) in enumerate(zip(slopes_a, _slopes(warped), strict=True)):
            slope = (slope_a + slope_b).reshape(p, pixels) * np.float32(0.5)
            slope *= inside.reshape(p, pixels)
            columns[:, 3 * k], columns[:, 3 * k + 1], columns[:, 3 * k + 2] = slope * x, slope * y, slope
        columns[:, 6] = (warped * inside).reshape(p, pixels)
        columns[:, 7] = inside.reshape(p, pixels)
        normal = columns @ columns.swapaxes(1, 2)
        moments = columns @ (a - warped).reshape(p, pixels, 1)
        damp = 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] / 8 + 1e-6
        step = np.linalg.solve(normal + damp * np.eye(8, dtype=np.float32), moments)[:, :6].reshape(-1, 2, 3)
        step = np.clip(step, -LARGEST, LARGEST)
        maps = maps + maps[:, :, :2] @ step
    return maps


def _score(a: np.ndarray, b: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Correlation (p,) of a and b(map) over what overlaps, the worst cells dropped; 0 where too little overlaps."""
    warped, inside = _sample(b, maps)
    p, side = len(a), a.shape[-1]
    weight = inside / np.maximum(inside.sum((1, 2), keepdims=True), 1)
    a, warped = (x - (x * weight).sum((1, 2), keepdims=True) for x in (a, warped))
    size = side // CELLS
    aa, bb, ab = (
        (x * inside).reshape(p, CELLS, size, CELLS, size).sum((2, 4)).reshape(p, CELLS**2)
        for x in (a * a, warped * warped, a * warped)
    )
    total_a, total_b = (np.maximum(x.sum(-1, keepdims=True), 1e-6) for x in (aa, bb))
    misfit = aa / total_a + bb / total_b - 2 * ab / np.sqrt(total_a * total_b)
    kept = np.argsort(misfit, -1)[:, : round(CELLS**2 * (1 - DROPPED))]
    aa, bb, ab = (np.take_along_axis(x, kept, -1).sum(-1) for x in (aa, bb, ab))
    share = inside.mean((1, 2))
    area = share * np.abs(np.linalg.det(maps[:, :, :2]))
    return np.where((share >= OVERLAP) & (area >= OVERLAP), ab / np.sqrt(np.maximum(aa * bb, 1e-6)), 0)


def _plausible(maps: np.ndarray) -> np.ndarray:
    diagonal = np.abs(maps[:, [0, 1], [0, 1]])
    return ((diagonal >= SCALES[0]) & (diagonal <= SCALES[1]) & (np.abs(maps[:, [0, 1], [1, 0]]) <= SLANT)).all(-1)


@cache
def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    centre = ((np.arange(side) + 0.5) * 2 / side - 1).astype(np.float32)
    x, y = np.meshgrid(centre, centre)
    return x, y


def _slopes(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of images (p, s, s) in x and y, each (p, s, s); 0 along the edges."""
    quarter = np.float32(images.shape[-1] / 4)  # two pixels are 4 / s units
    dx, dy = np.zeros_like(images), np.zeros_like(images)
    np.subtract(images[:, :, 2:], images[:, :, :-2], out=dx[:, :, 1:-1])
    np.subtract(images[:, 2:], images[:, :-2], out=dy[:, 1:-1])
    return dx * quarter, dy * quarter


def _sample(images: np.ndarray, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (p, s, s) seen through maps, bilinear, 0 outside; and how far each pixel is inside, 0 to 1."""
    side = images.shape[-1]
    pixels = maps.copy()  # the same maps between pixel numbers: u = (x + 1) s / 2 - 1 / 2
    middle = np.float32((side - 1) / 2)
    pixels[:, :, 2] = maps[:, :, 2] * np.float32(side / 2) + middle - maps[:, :, :2].sum(-1) * middle
    values, inside, all_of_it = np.empty_like(images), np.empty_like(images), np.ones((side, side), np.float32)
    for k, (image, matrix) in enumerate(zip(images, pixels, strict=True)):
        cv2.warpAffine(image, matrix, (side, side), dst=values[k], flags=FLAGS)
        cv2.warpAffine(all_of_it, matrix, (side, side), dst=inside[k], flags=FLAGS)
    return values, inside
