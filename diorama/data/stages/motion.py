"""Motion of a video: optical flow, what the camera does, and what moves besides.

Flow (Kroeger et al. 2016, "Fast optical flow using dense inverse search") is measured between frames an eighth of a
second apart, in luma of some 9,200 pixels whatever the video's size; speeds are by the second, and lengths shares of
the frame, so that neither rate nor size matters. The camera's motion is a similarity between frames: a camera that
turns and one that moves sideways are not told apart, nor a zoom from a camera that moves ahead, and the parallax of
the latter counts as other motion. Pairs of frames that flow does not explain, as across a cut, are left out.

Signs are those of a camera in OpenGL's convention, x right, y up, looking along -z: `pan` > 0 turns it right (against
the right-hand rule about y), so content moves left; `tilt` > 0 turns it up (about x), so content moves down; `zoom` > 0
makes content larger; `roll` > 0 turns it counter-clockwise (about z), so content turns clockwise.

Runs in decoding workers: numpy and cv2 only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np

from diorama.data.stages.camera import NEAR, PAIRS, Path, camera, composed, fit, motion_of, similarity, steps
from diorama.media.media import Media

PIXELS = 96 * 96  # in which flow is measured: 72 x 128 of 16:9
CELL = 8  # pixels a side over which flow is averaged: each is a point for the camera's motion
LEAST, MOST = 32, 288  # pixels a side, of very long or tall frames
CHUNK = 64  # pairs of frames that are held at a time
TEXTURE = 6.0  # squared levels a pixel: gradients with which noise and compression leave flow half right
CONTRAST = 18.0  # squared levels of fine contrast that are noise
UNLIKE = 0.6  # share of a cell's fine contrast that differs along the flow, from which on it was not followed
FOLLOWED = 0.4  # share of all cells, by contrast, that must be; across a cut they are not
REST = 1.15  # times its due counts rest: most cameras rest, and what moves before them is of richer texture
ALIGNMENTS = 2  # steps from a similarity to the best one: a third changes little
AROUND, FAVOUR = 3, 1.5  # pairs to either side that speak for a pair, and how much for them
BAR = 24  # levels within which a bar keeps, noise included
EDGE = 4  # pixels beside it that its edge reaches, half of those about which means are taken
APART = 5.0  # times the squared difference that errors leave, from which on a cell moves of its own

MEASURES: dict[str, str] = {
    "flow": "mean speed of the content, diagonals of the frame a second",
    "flow_variation": "standard deviation of that speed over time, diagonals a second",
    "flow_direction": "where the content moves on the whole, degrees in (-180, 180]: 0 right, 90 up",
    "flow_coherence": "how much of the motion goes there: the mean velocity over the mean speed, 0 to 1",
    "pan": "mean speed at which the camera turns right, widths of the frame a second",
    "tilt": "mean speed at which it turns up, heights of the frame a second",
    "zoom": "mean rate at which content becomes larger, natural logarithm of the scale a second",
    "roll": "mean speed at which the camera turns counter-clockwise, degrees a second",
    "shake": "sway of the camera about its smooth path, root mean square, diagonals",
    "moving": "share of the frame that moves otherwise than the camera explains, 0 to 1",
    "moving_speed": "mean over the frame of the speed of such motion, diagonals a second",
    "matched": "share of pairs of frames that flow explains, on which all else rests, 0 to 1",
}


@dataclass(frozen=True)
class Motion:
    """The class of the camera's motion, `camera.camera`, and one column each of `MEASURES`; all null for a still."""

    name: ClassVar[str] = "motion"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"camera": str} | dict.fromkeys(MEASURES, float)

    def __call__(self, media: Media) -> dict[str, Any]:
        """As `Stage`."""
        if media.rate is None:
            return dict.fromkeys(self.columns)
        return motion(media.frames, media.rate)


def motion(frames: np.ndarray, rate: float) -> dict[str, Any]:
    """`Motion`'s columns of frames (t, h, w, 3) uint8 at `rate` frames per second.

    All None for fewer than two frames; all but `matched` where no two frames have anything in common. What shows no
    texture is taken to move with the camera, and a video without any to rest.
    """
    row: dict[str, Any] = dict.fromkeys(Motion.columns)
    t, h, w, _ = frames.shape
    if t < 2:
        return row
    n = min(max(round((t - 1) / rate * PAIRS), 1), t - 1)
    chosen = np.round(np.linspace(0, t - 1, n + 1)).astype(int)
    view = _View([_reduced(frames[i]) for i in chosen[:: max(n // 8, 1)]], w / h)
    found = _looked(frames, chosen, view)
    _halved(found, frames, chosen, view)
    row["matched"] = float(found.like.mean())
    if not found.like.any():
        return row
    seconds = (t - 1) / rate / n
    _steadied(found, lambda k: (_reduced(frames[chosen[k]]), _reduced(frames[chosen[k + 1]])), view)
    flow, trust, _, model, other, _ = (part[found.like] for part in found)
    path = Path(steps(model, w / h), seconds, w / h)
    pan, tilt, zoom, roll = path.rates.tolist()
    row |= {"camera": camera(path), "pan": pan, "tilt": tilt, "zoom": zoom, "roll": float(np.degrees(roll))}
    row["shake"] = path.split()[1]
    explained = motion_of(model, view.points)
    row |= _flow_row(flow, trust, explained, seconds)
    row["moving"] = float(other.mean())
    row["moving_speed"] = float((np.linalg.norm(flow - explained, axis=-1) * other).mean()) / seconds
    return row


def _flow_row(flow: np.ndarray, trust: np.ndarray, explained: np.ndarray, seconds: float) -> dict[str, float]:
    """What is asked of flow (n, p, 2); where nothing is seen, the camera's (n, p, 2) stands in."""
    seen = (trust[..., :2].mean(-1))[..., None]
    whole = (seen * flow + (1 - seen) * explained) / seconds
    speed = np.linalg.norm(whole, axis=-1)
    x, y = whole.mean((0, 1)).tolist()
    mean = float(speed.mean())
    return {
        "flow": mean,
        "flow_variation": float(speed.mean(1).std()),
        "flow_direction": float(np.degrees(np.arctan2(-y, x))),
        "flow_coherence": float(np.hypot(x, y)) / mean if mean > 0 else 0.0,
    }


def _reduced(frame: np.ndarray) -> np.ndarray:
    """Luma, of about PIXELS pixels, its sides multiples of CELL."""
    h, w = frame.shape[:2]
    share = (PIXELS / (h * w)) ** 0.5
    size = [CELL * round(min(max(side * share, LEAST), MOST) / CELL) for side in (w, h)]
    way = cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR
    return cv2.cvtColor(cv2.resize(frame, size, interpolation=way), cv2.COLOR_RGB2GRAY)


def _bars(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which rows (h,) belong to bars at the top or bottom, or to their edges: of one level at all times."""
    plain = high.max(1).astype(int) - low.min(1) <= BAR
    if plain.all():
        return np.zeros_like(plain)
    top, bottom = int(np.argmin(plain)), int(np.argmin(plain[::-1]))
    row = np.arange(len(plain))
    return ((row < top + EDGE) & (top > 0)) | ((row >= len(plain) - bottom - EDGE) & (bottom > 0))


class _View:
    """Frames as they are compared, and their cells, each a point; made from some frames (h, w) of luma.

    cells: columns and rows. points: (p, 2) their centres, x and y in diagonals from the frame's centre. rows: (p, 2, 4)
    what a similarity's parameters do to x and y of each point, in pixels. pixels: (2,) those of a diagonal, in x and y.
    grid: (h, w, 2) the place of each pixel. open: (p, 1) 0 where bars reach into a cell, otherwise 1.
    """

    def __init__(self, some: list[np.ndarray], aspect: float) -> None:
        h, w = some[0].shape
        self.cells = w // CELL, h // CELL
        diagonal = np.hypot(aspect, 1)
        y, x = np.meshgrid(*((np.arange(k) + 0.5) / k - 0.5 for k in self.cells[::-1]), indexing="ij")
        self.points = np.stack([x.ravel() * aspect, y.ravel()], -1) / diagonal
        self.pixels = np.array([w * diagonal / aspect, h * diagonal])
        self.rows = similarity(self.points) * self.pixels[:, None]
        y, x = np.mgrid[:h, :w].astype(np.float32)
        self.grid = cv2.merge([x, y])
        low, high = np.min(some, 0), np.max(some, 0)
        bars = _bars(low, high)[:, None] | _bars(low.T, high.T)
        self.open = (cv2.resize(bars.astype(np.float32), self.cells, interpolation=cv2.INTER_AREA) == 0).reshape(-1, 1)

    def place(self, model: np.ndarray) -> np.ndarray:
        """Where each pixel goes by a similarity (4,): the matrix (2, 3), in pixels, that cv2.warpAffine takes."""
        tx, ty, a, b = model
        turn = np.array([[1 + a, -b], [b, 1 + a]]) * self.pixels[:, None] / self.pixels
        centre = (self.grid[-1, -1] / 2).astype(float)
        return np.c_[turn, centre + [tx, ty] * self.pixels - turn @ centre]

    def pooled(self, products: list[np.ndarray]) -> np.ndarray:
        """Means (p, m) of m pictures within each cell."""
        means = cv2.resize(cv2.merge(products), self.cells, interpolation=cv2.INTER_AREA)
        return means.reshape(-1, len(products)) * self.open


class _Pair:
    """Two frames to be brought in line.

    tensor: (p, 3) structure tensors of the first by cell, entries xx, yy and xy. contrast: (p,) its fine contrast.
    """

    def __init__(self, one: np.ndarray, other: np.ndarray, view: _View) -> None:
        self.view, self.other, self.fine = view, other, _fine(one)
        self.x, self.y = (g.astype(np.float32) / 8 for g in cv2.spatialGradient(one))
        self.tensor = view.pooled([self.x * self.x, self.y * self.y, self.x * self.y]).astype(float)
        self.contrast = view.pooled([self.fine * self.fine, self.fine])[:, 0]

    def differs(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The squared difference (p,) of the first frame from the other at `place`, by cell; and the push (p, 2).

        place: (h, w, 2) in pixels, or the matrix of `_View.place`. The push times the inverse tensor is the way to go
        further (Lucas & Kanade 1981). One gain for the frame is taken out, since light changes.
        """
        flags, border = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE
        h, w = self.other.shape
        if place.shape == (2, 3):
            there = cv2.warpAffine(self.other, place, (w, h), flags=flags, borderMode=border)
        else:
            there = cv2.remap(self.other, place, None, cv2.INTER_LINEAR, borderMode=border)  # type: ignore[call-overload]
        fine = _fine(there)
        gain = float(np.vdot(self.fine, fine)) / max(float(np.vdot(fine, fine)), 1.0)
        error = self.fine - np.float32(min(max(gain, 0.5), 2.0)) * fine
        sums = self.view.pooled([error * error, self.x * error, self.y * error])
        return sums[:, 0], sums[:, 1:]


class _Found(NamedTuple):
    """Of n pairs of frames, by p cells."""

    flow: np.ndarray  # (n, p, 2) diagonals
    trust: np.ndarray  # (n, p, 3), as `camera.fit`
    left: np.ndarray  # (n, p) what flow leaves of the squared difference
    model: np.ndarray  # (n, 4) the similarity that the camera causes
    other: np.ndarray  # (n, p) whether something moves otherwise
    like: np.ndarray  # (n,) whether the frames were found alike


def _looked(frames: np.ndarray, chosen: np.ndarray, view: _View) -> _Found:
    """What is found of frames (t, h, w, 3) between each chosen number of one and the next."""
    pairs = pairwise(_reduced(frames[i]) for i in chosen)
    parts = [_measured(list(islice(pairs, CHUNK)), view) for _ in range(0, len(chosen) - 1, CHUNK)]
    return _Found(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _halved(found: _Found, frames: np.ndarray, chosen: np.ndarray, view: _View) -> None:
    """Look again, in place, at pairs that were not found alike, by way of the frame between: motion may be too fast."""
    for k in np.flatnonzero(~found.like & (np.diff(chosen) > 1)).tolist():
        halves = _looked(frames, np.array([chosen[k], (chosen[k] + chosen[k + 1]) // 2, chosen[k + 1]]), view)
        if halves.like.all():
            found.flow[k], found.trust[k] = halves.flow.sum(0), halves.trust[0]
            found.left[k], found.other[k] = halves.left.max(0), halves.other.any(0)
            found.model[k], found.like[k] = composed(*halves.model), True


def _measured(frames: list[tuple[np.ndarray, np.ndarray]], view: _View) -> _Found:
    """What is found of pairs of luma."""
    pairs = [_Pair(one, other, view) for one, other in frames]
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    starts = [method.calc(one, other, None) for one, other in frames]  # type: ignore[call-overload]
    flow, trust, left, like = (np.stack(part) for part in zip(*map(_flow, pairs, starts), strict=True))
    model = fit(flow, trust, view.points)
    rest = np.zeros(4)
    aligned = [_aligned(*each) for each in zip(pairs, ([(1, one), (REST, rest)] for one in model), left, strict=True)]
    models, other = (np.stack(part) for part in zip(*aligned, strict=True))
    return _Found(flow, trust, left, models, other, like)


def _steadied(found: _Found, frames: Callable[[int], tuple[np.ndarray, np.ndarray]], view: _View) -> None:
    """Look again, in place, at pairs whose similarity is unlike those around it: what passes may rule a few of them.

    frames(k): the luma of pair k. The median of those around is favoured; of a camera that sways it explains little.
    """
    kept = np.flatnonzero(found.like)
    models = found.model[kept]
    around = np.pad(models, ((AROUND, AROUND), (0, 0)), "edge")
    usual = np.median(np.lib.stride_tricks.sliding_window_view(around, 2 * AROUND + 1, 0), -1)
    apart = np.linalg.norm(motion_of(models - usual, view.points), axis=-1).mean(1)
    for k in kept[apart > 5 * NEAR].tolist():
        starts = [(1.0, found.model[k]), (FAVOUR, usual[np.searchsorted(kept, k)])]
        found.model[k], found.other[k] = _aligned(_Pair(*frames(k), view), starts, found.left[k])


def _flow(pair: _Pair, start: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Flow (p, 2) of a pair from dense flow (h, w, 2) to start from, and its trust, what it leaves, and like."""
    view = pair.view
    place = cv2.add(view.grid, start)
    left, push = pair.differs(place)
    xx, yy, xy = (pair.tensor + np.array([TEXTURE, TEXTURE, 0])).T
    det = xx * yy - xy * xy
    step = np.stack([yy * push[:, 0] - xy * push[:, 1], xx * push[:, 1] - xy * push[:, 0]], -1) / det[:, None]
    flow = cv2.resize(start, view.cells, interpolation=cv2.INTER_AREA).reshape(-1, 2) + np.clip(step, -1, 1)
    followed = left < UNLIKE * (pair.contrast + CONTRAST)
    weight = np.sqrt(pair.contrast) + 1e-3
    trust = np.stack([1 - TEXTURE * yy / det, 1 - TEXTURE * xx / det, TEXTURE * xy / det], -1) * followed[:, None]
    return flow / view.pixels, trust, left, bool((weight * followed).sum() > FOLLOWED * weight.sum())


def _aligned(
    pair: _Pair, starts: Sequence[tuple[float, np.ndarray]], left: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The similarity (4,) that aligns a pair, from the best of some; and which cells (p,) it does not explain.

    Flow is drawn along by what moves next to it; so the frames themselves decide, by the squared differences within
    cells, which count the less the larger they are (Odobez & Bouthemy 1995, "Robust multiresolution estimation of
    parametric motion models"). Best is what explains most near the frame's border, since what moves of its own is
    rarely all around. starts: similarities, each with a factor by which it is favoured. left: (p,) what flow leaves.
    """
    view = pair.view
    # What noise leaves, and errors of a seventh of a pixel.
    usual = np.median(left) + 1.0 + 0.02 * (pair.tensor[:, 0] + pair.tensor[:, 1])
    edge = np.square(np.abs(view.points / np.abs(view.points).max(0)).max(1))
    counts = edge * (1 - usual / (usual + pair.tensor[:, 0] + pair.tensor[:, 1]))
    tried = [(*pair.differs(view.place(start)), start) for _, start in starts]
    shares = [float((counts / (1 + np.square(off / (2 * usual)))).sum()) for off, *_ in tried]
    best = np.argmax([favour * share for (favour, _), share in zip(starts, shares, strict=True)])
    off, push, model = tried[int(best)]
    xx, yy, xy = pair.tensor.T[..., None, None]
    x, y = view.rows[:, 0, :], view.rows[:, 1, :]
    square = np.stack([xx[:, 0] * x + xy[:, 0] * y, xy[:, 0] * x + yy[:, 0] * y], 1)  # tensor times rows
    for _ in range(ALIGNMENTS):
        weight = 1 / np.square(1 + off / (3 * usual)) / usual
        normal = np.tensordot(view.rows * weight[:, None, None], square, ([0, 1], [0, 1]))
        right = np.tensordot(view.rows * weight[:, None, None], push, ([0, 1], [0, 1]))
        # A trace of a prior for no change, where nothing says anything.
        model = model + np.linalg.solve(normal + 1e-3 * np.diag(np.square(view.rows).sum((0, 1))), right)
        off, push = pair.differs(view.place(model))
    ahead = np.abs(view.points + motion_of(model[None], view.points)[0])
    inside = (ahead < np.abs(view.points).max(0)).all(1)  # what leaves the frame shows nothing
    return model, (off > APART * usual) & inside


def _fine(luma: np.ndarray) -> np.ndarray:
    """What is left of luma without its mean about each pixel, which light changes."""
    return cv2.subtract(luma, cv2.blur(luma, (9, 9)), dtype=cv2.CV_32F)
