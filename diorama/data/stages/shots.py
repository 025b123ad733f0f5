"""Shots of a video: cuts, dissolves and fades, told from flashes, fast cameras and objects that pass.

Frames are compared as small pictures, and only where the video changes at all: bars, logos and captions do not count.

- A cut is two neighbouring frames that remain *unlike* after one is warped onto the other by dense optical flow
  (Kroeger et al. 2016, "Fast optical flow using dense inverse search"): much more so than their neighbours, as under
  a fast camera they are not, and so do the frames somewhat before and after, as about a flash they do not.
- A dissolve is linear: every frame within is a weighted sum of the frames at its ends, one weight for all pixels,
  whereas motion reaches each pixel at a time of its own. And fine contrast sags in the middle, where unrelated
  pictures are averaged (Alattar 1993, "Detecting and compressing dissolve regions in video sequences with a DVI
  multimedia image compression algorithm").
- A fade runs to or from frames without contrast.

Runs in decoding workers: it imports nothing that loads JAX.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

_SMALL = (54, 96)  # (h, w) of the frames that are compared, whatever their aspect
_BLOCKS = (9, 12)  # in which structure is compared
_COARSE = (9, 16)  # cells in which dissolves are linear in spite of moderate motion
_CHUNK = 256  # frames
_NOISE = 9.0  # variance within a block, in squared grey levels, that is worth nothing

# Chosen on planted videos (benchmarks/planted/shots.py).
_CUT = 0.55  # unlike frames
_PEAK = 0.3  # by how much more so than any neighbours
_FLASH = 0.33  # seconds; how long it may last
_BLANK = 2.0  # grey levels of coarse contrast
_LONGEST = 1.6  # seconds of a dissolve, or of either half of a fade
_WINDOWS = (2, 3, 5, 7, 10, 14, 20, 28, 38, 54, 76, 108)  # frames from before a dissolve to after it
_TRIM = 2  # frames beside a gradual transition that may still hold a trace of it


@dataclass(frozen=True)
class Transition:
    """Where one shot becomes another.

    kind: "cut", "dissolve" or "fade" (through frames without contrast). [start, end): the frames that belong to
    neither shot; none for a clean cut, where `start` is the first frame of the new shot. score in [0, 1]: of a cut, the
    structure that the old shot does not explain in the new; of a dissolve, how linear it is and how much contrast
    sags; of a fade, how much contrast is lost.
    """

    kind: str
    start: int
    end: int
    score: float


@dataclass(frozen=True)
class Shot:
    """Frames [start, end) of one shot; `before` and `after` say what bounds it.

    before: "start" of the video, "cut", "dissolve", "fade" or "split"; after likewise, or the "end".
    """

    start: int
    end: int
    before: str
    after: str


def shots(frames: np.ndarray, rate: float) -> list[Shot]:
    """The shots of frames (t, h, w, 3) uint8 RGB at `rate` frames per second, in order, without the transitions.

    Beside a transition of some length two more frames are left out on either side. A shot of which nothing remains is
    left out, so that there may be none.
    """
    t, found = len(frames), transitions(frames, rate)
    trims = [_TRIM if cut.end > cut.start else 0 for cut in found]
    starts = [0, *(min(cut.end + trim, t) if cut.end < t else t for cut, trim in zip(found, trims, strict=True))]
    ends = [*(max(cut.start - trim, 0) for cut, trim in zip(found, trims, strict=True)), t]
    kinds = ["start", *(cut.kind for cut in found), "end"]
    spans = zip(starts, ends, pairwise(kinds), strict=True)
    return [Shot(start, end, before, after) for start, end, (before, after) in spans if end > start]


def split_long(shots: Sequence[Shot], rate: float, longest: float) -> list[Shot]:
    """Shots longer than `longest` seconds in as few parts of nearly equal length as keep to it."""
    most = max(int(longest * rate), 1)
    out = []
    for shot in shots:
        parts = -(-(shot.end - shot.start) // most)
        edges = [shot.start + (shot.end - shot.start) * k // parts for k in range(parts + 1)]
        split = [Shot(start, end, "split", "split") for start, end in pairwise(edges)]
        split[0] = replace(split[0], before=shot.before)
        split[-1] = replace(split[-1], after=shot.after)
        out += split
    return out


def transitions(frames: np.ndarray, rate: float) -> list[Transition]:
    """The transitions of frames (t, h, w, 3) uint8 RGB at `rate` frames per second, in order, without overlap."""
    if len(frames) < 2:
        return []
    film = _Film(frames, rate)
    fades = _fades(film)
    cuts = [cut for cut in _cuts(film) if not any(fade.start - 2 <= cut.start <= fade.end + 2 for fade in fades)]
    return sorted([*fades, *cuts, *_dissolves(film, [*fades, *cuts])], key=lambda found: found.start)


class _Film:
    """What is asked of a video.

    grey: (t, 54, 96) uint8. step: (t,) how unlike each frame is the one before. coarse: (t, 432) the colours of cells,
    less the frame's mean; contrast: (t,) their root mean square. fine: (t,) variance within blocks of grey.
    """

    def __init__(self, frames: np.ndarray, rate: float) -> None:
        t, (h, w) = len(frames), _SMALL
        self.rate = rate
        self.grey = np.empty((t, h, w), np.uint8)
        colour = np.empty((t, *_COARSE, 3), np.uint8)
        for k, frame in enumerate(frames):
            small = cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA)
            cv2.cvtColor(small, cv2.COLOR_RGB2GRAY, self.grey[k])
            cv2.resize(small, _COARSE[::-1], colour[k], interpolation=cv2.INTER_AREA)
        live = _live(self.grey)
        self.blocks = _mean(live, _BLOCKS) == 1
        cells = colour.reshape(t, -1, 3)[:, (_mean(live, _COARSE) > 0.99).ravel()].astype(np.float32)
        self.coarse = (cells - cells.mean(1, keepdims=True)).reshape(t, -1)
        self.contrast = np.sqrt((self.coarse**2).mean(1))
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self.fine, self.step = np.empty(t, np.float32), np.zeros(t, np.float32)
        for k in range(0, t, _CHUNK):
            self.fine[k : k + _CHUNK] = _moments(self.grey[k : k + _CHUNK])[1][:, self.blocks].mean(1)
            second = np.arange(max(k, 1), min(k + _CHUNK, t))
            self.step[second] = self.unlike(second - 1, second)

    def unlike(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The share, in [0, 1], of the structure of frames `first` (m,) that frames `second` (m,) do not explain.

        As in SSIM (Wang et al. 2004) structure is the covariance within blocks over the product of the standard
        deviations, so that exposure does not count; a tenth of the squared change of brightness is added to the
        latter, so that plain frames of different brightness are unlike. Blocks count by their standard deviation.
        """
        warped = np.empty((len(first), *_SMALL), np.uint8)
        for k, (i, j) in enumerate(zip(first, second, strict=True)):
            at = self._flow.calc(self.grey[i], self.grey[j], None) + _GRID  # type: ignore[call-overload]
            cv2.remap(self.grey[j], at, None, cv2.INTER_LINEAR, warped[k], cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        grey = self.grey[first].astype(np.float32)
        (mean, variance), (mean2, variance2) = _moments(grey), _moments(warped)
        both = np.maximum(_mean(grey * warped, _BLOCKS) - mean * mean2, 0) + _NOISE
        whole = np.sqrt((variance + _NOISE) * (variance2 + _NOISE)) + 0.1 * (mean - mean2) ** 2
        both, whole = both[:, self.blocks], whole[:, self.blocks]
        return 1 - (both / np.sqrt(whole)).sum(1) / np.sqrt(whole).sum(1)

    def apart(self, i: int, j: int) -> float:
        """How unlike frames before i and after j are at least, within the time of a flash: low about a flash."""
        reach = np.unique(np.linspace(0, max(_FLASH * self.rate - 1, 3), 8).astype(int))
        after, before = reach[j + reach < len(self.grey)], reach[1:][i - reach[1:] >= 0]
        first = np.concatenate([np.full(len(after), i), i - before])
        return float(self.unlike(first, np.concatenate([j + after, np.full(len(before), j)])).min())


_GRID = np.stack(np.meshgrid(np.arange(_SMALL[1]), np.arange(_SMALL[0])), -1).astype(np.float32)


def _live(grey: np.ndarray) -> np.ndarray:
    """Which pixels of (t, h, w) change in the course of the video, (h, w) float32 of 0 and 1; all if few do."""
    spread = grey[:: max(len(grey) // 64, 1)].astype(np.float32).std(0)
    live = cv2.erode((spread > 0.25 * np.percentile(spread, 80)).astype(np.float32), np.ones((3, 3)))
    return live if (_mean(live, _BLOCKS) == 1).mean() > 0.3 else np.ones_like(live)


def _mean(x: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Means (..., *grid) over the cells of a grid laid on x (..., h, w)."""
    h, w = x.shape[-2] // grid[0], x.shape[-1] // grid[1]
    rows = x.reshape(*x.shape[:-2], grid[0], h, x.shape[-1]).sum(-2)
    return rows.reshape(*rows.shape[:-1], grid[1], w).sum(-1) / np.float32(h * w)


def _moments(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance within the blocks of grey (m, h, w)."""
    grey = grey.astype(np.float32)
    mean = _mean(grey, _BLOCKS)
    return mean, np.maximum(_mean(grey * grey, _BLOCKS) - mean * mean, 0)


def _cuts(film: _Film) -> list[Transition]:
    """Clean cuts: a step that stands out from those around it, between frames that do not come to agree again."""
    found = []
    for k in map(int, np.flatnonzero(film.step > _CUT)):
        others = np.delete(film.step, k)[max(k - 2, 0) : k + 2]
        if film.step[k] - others.max(initial=0) > _PEAK and (score := film.apart(k - 1, k)) > _CUT:
            found.append(Transition("cut", k, k, score))
    return found


def _fades(film: _Film) -> list[Transition]:
    """Runs of frames without contrast, with the frames over which it goes and comes; cuts if it does so at once."""
    contrast, t = film.contrast, len(film.contrast)
    half = round(film.rate / 2)
    around = np.minimum(_highest(contrast, half), _highest(contrast[::-1], half)[::-1])
    blank = (contrast < _BLANK) | (contrast < 0.2 * around)
    blank |= (_highest(blank, 3) & _highest(blank[::-1], 3)[::-1]).astype(bool)  # a speck of noise within
    found = []
    edges = np.flatnonzero(np.diff(blank, prepend=False, append=False)).reshape(-1, 2)
    for start, end in edges.tolist():
        if end - start == t:
            continue
        most = round(_LONGEST * film.rate)
        out, back = _ramp(contrast[: start + 1][::-1], most), _ramp(contrast[end - 1 :], most)
        before, after = start - out - 1, end + back
        flash = before >= 0 and after < t and min(out, back) < 3 and film.apart(before, after) < _CUT
        if not flash:
            score = 1 - contrast[start:end].min() / max(contrast[max(before, 0) : after + 1].max(), 1)
            found.append(Transition("fade" if max(out, back) > 2 else "cut", before + 1, after, float(score)))
    return found


def _highest(x: np.ndarray, n: int) -> np.ndarray:
    """The maximum of x (t,) over each place and the n before it."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(x, (n, 0)), n + 1).max(-1)


def _ramp(contrast: np.ndarray, most: int) -> int:
    """Over how many frames contrast grows, from a blank frame contrast[0] on, before it is whole."""
    contrast = contrast[: most + 2]
    growth, grown = np.diff(contrast), contrast[:-1] - contrast[0]
    so_far = grown / np.maximum(np.arange(len(grown)), 1)
    stop = np.flatnonzero((growth <= 0) | (growth < 0.25 * so_far)).min(initial=len(growth))
    return max(int(stop) - 1, 0)


def _dissolves(film: _Film, known: list[Transition]) -> list[Transition]:
    """The best windows that look like a dissolve and overlap neither one another nor `known`."""
    t = len(film.step)
    taken = np.zeros(t, bool)
    for other in known:
        taken[other.start : other.end + 1] = True
    windows = [n for n in _WINDOWS if n < t and n <= max(_LONGEST * film.rate, 7)]
    band = [(film.coarse[: t - n] * film.coarse[n:]).mean(1) for n in range(max(windows, default=1) + 1)]
    likely = [blend for n in windows for blend in _blends(film, band, n)]
    found = []
    for blend in sorted(likely, key=lambda blend: -blend.gain):
        i, j = blend.first, blend.first + len(blend.weight) - 1
        if taken[i + 1 : j + 1].any() or film.apart(i, j) < _CUT:
            continue
        start, end = _span(blend)
        taken[max(start - 3, 0) : end + 4] = True
        found.append(Transition("dissolve" if end - start > 2 else "cut", start, end, blend.score))
    return found


@dataclass(frozen=True)
class _Blend:
    """A window of frames that may be a dissolve: the index of the frame before it, and the weight of the new shot."""

    first: int
    weight: np.ndarray  # (n + 1,)
    gain: float  # how much of a change it explains, in squared grey levels
    score: float


def _span(blend: _Blend) -> tuple[int, int]:
    """The frames [start, end) of a dissolve: where the line through the weights in its middle is between 0 and 1."""
    n = len(blend.weight) - 1
    middle = np.flatnonzero((blend.weight > 0.2) & (blend.weight < 0.8))
    if len(middle) > 2:
        slope, at = np.polyfit(middle, blend.weight[middle], 1)
        start, end = (round(edge) for edge in np.clip([1 - at / slope, (1 - at) / slope], 1, n))
    else:
        mixed = np.flatnonzero((blend.weight > 0.06) & (blend.weight < 0.94))
        start, end = int(mixed.min(initial=n)), int(mixed.max(initial=0)) + 1
    return blend.first + start, blend.first + max(start, end)


def _blends(film: _Film, band: list[np.ndarray], n: int) -> list[_Blend]:
    """Windows of frames i .. i + n like a dissolve. band[lag]: (t - lag,) inner products of coarse frames lag apart.

    With a and b the first and the last frame, the weight of frame f is that of the least squared residual of
    f = a + weight (b - a), found from inner products alone.
    """
    m = len(band[n])
    aa, bb, ab = band[0][:m], band[0][n:], band[n]
    change = np.maximum(aa + bb - 2 * ab, 1e-3)
    weight, left = np.empty((n + 1, m), np.float32), np.zeros(m, np.float32)
    for k in range(n + 1):
        fa, fb, ff = band[k][:m], band[n - k][k:], band[0][k : k + m]
        weight[k] = (fb - fa - ab + aa) / change
        left += ff - 2 * fa + aa - weight[k] ** 2 * change
    shown = np.clip(weight, 0, 1)
    mixed = shown * (1 - shown)
    bent = left / np.maximum(mixed.sum(0), 1 / 8) / change  # the residual, against what mixing explains
    fine = np.stack([film.fine[k : k + m] for k in range(n + 1)]) + _NOISE
    sag = (fine / ((1 - shown) * fine[0] + shown * fine[-1]) * mixed).sum(0) / np.maximum(mixed.sum(0), 1e-6)
    growth = np.diff(weight, axis=0)
    gradual = np.abs(growth).sum(0) < 1.1
    gradual &= growth.max(0) < (0.85 if n <= 3 else 0.55 if n <= 5 else 0.4)
    steps = np.stack([film.step[k : k + m] for k in range(1, n + 1)])
    if n > 3:
        gradual &= steps.max(0) < 0.45
    alike = np.maximum(ab, 0) / np.sqrt(aa * bb + 1)
    doubt = bent / 2 + sag + alike / 5 + steps.mean(0)
    likely = np.flatnonzero(gradual & (change > 64) & (sag < 0.9) & (doubt < 1.15))
    gain = change * (1 - doubt / 2)
    return [_Blend(int(i), weight[:, i], float(gain[i]), float(1 - doubt[i] / 2)) for i in likely]
