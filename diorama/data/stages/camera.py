"""The motion of a camera from dense optical flow: robust fits between pairs of frames, and their class over time.

Lengths are shares of the frame's diagonal. x runs right and y down, from the centre of the frame; a content's motion
between two frames is the similarity (x, y) -> (x + tx + a x - b y, y + ty + b x + a y).

A point says as much of the motion as its surroundings have texture (Lucas & Kanade 1981; Shi & Tomasi 1994, "Good
features to track"): nothing where they are plain, and on an edge only what is across it. So the flow's errors d are
weighed by matrices K = S (S + k I)^-1 of the structure tensors S, whose eigenvalues lie between 0 (plain) and 1.

Runs in decoding workers: numpy and cv2 only.
"""

from dataclasses import dataclass

import cv2
import numpy as np

PAIRS = 8  # pairs a second: twice the highest frequency of a hand's sway (4 Hz), and fast pans stay within reach
NEAR, NEAR_SHARE = 0.001, 0.02  # diagonals and share of the motion: by so much does good flow err
WIDE = (2, 2, 1, 1, 1)  # times as much, in the rounds of the fit: from where it begins to where it settles

SLOW = 0.005  # diagonals a second, a frame's width in three minutes and more: below it people see no camera move
SHAKY = 0.0012  # diagonals, 3 lines of 1080p: the least sway that is seen; a tripod on a floor stays below a third
SWAY = 1.25  # seconds over which a path is smoothed: what is faster is a hand's sway, slower is meant
MEANT = 4.0  # a second: a move is meant if in a second it leads this many times as far as the sway
ALONE = 0.5  # a class of its own has no second motion of more than this share
STRAIGHT = 0.7  # and leads this share of its way to where it ends

CLASSES = ("pan", "tilt", "zoom", "roll")
RADIUS = 1 / np.sqrt(12)  # root mean square distance of a frame's points from its centre: zoom and roll as lengths


@dataclass(frozen=True)
class Path:
    """How a camera moved over n pairs of frames, `seconds` apart.

    steps: (n, 4) float64, for each pair: what was panned right (share of the width), tilted up (share of the height),
    zoomed in (log of the scale) and rolled counter-clockwise (radians), `aspect` (width / height) aside.
    """

    steps: np.ndarray
    seconds: float
    aspect: float

    @property
    def rates(self) -> np.ndarray:
        """(4,) means over the time: widths, heights, log scale and radians a second."""
        return self.steps.mean(0) / self.seconds

    @property
    def lengths(self) -> np.ndarray:
        """(n, 4): the steps as lengths in diagonals, of zoom and roll those of the frame's points on average."""
        diagonal = np.hypot(self.aspect, 1)
        return self.steps * [self.aspect / diagonal, 1 / diagonal, RADIUS, RADIUS]

    def split(self) -> tuple[np.ndarray, float]:
        """The smooth part of the motion (n, 4), steps in diagonals; and the sway about it, root mean square.

        The place of the camera is averaged over `SWAY` seconds; at its ends a straight line stands for the average.
        """
        place = np.concatenate([np.zeros((1, 4)), np.cumsum(self.lengths, 0)])
        wide = min(2 * round(SWAY / self.seconds / 2) + 1, len(place))
        half = wide // 2
        total = np.cumsum(np.concatenate([np.zeros((1, 4)), place]), 0)
        middle = (total[wide:] - total[:-wide]) / wide
        slope = np.arange(wide) - (wide - 1) / 2
        whole = place[:wide], place[-wide:]
        ends = [each.mean(0) + np.outer(slope, slope @ each) / max(slope @ slope, 1e-9) for each in whole]
        smooth = np.concatenate([ends[0][:half], middle, ends[1][half + 1 :]]) if wide < len(place) else ends[0]
        sway = np.sqrt(np.square(place - smooth).sum(1).mean())
        return np.diff(smooth, axis=0), float(sway)


def camera(path: Path) -> str:
    """The class of a path: "static", "pan", "tilt", "zoom", "roll", "shake" or "complex".

    shake: a hand's sway, and nothing that is meant. complex: motions in turn or at once, none of which rules.
    """
    smooth, sway = path.split()
    ways = np.abs(smooth).sum(0) / (len(smooth) * path.seconds)
    ends = np.abs(smooth.sum(0)) / (len(smooth) * path.seconds)
    second, most = np.sort(ways)[-2:]
    if most < SLOW and sway < SHAKY:
        return "static"
    if sway >= SHAKY and most < MEANT * sway:
        return "shake"
    which = int(np.argmax(ways))
    ruled = second <= ALONE * most and ends[which] >= STRAIGHT * most
    return CLASSES[which] if ruled else "complex"


def fit(flow: np.ndarray, trust: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Similarities (n, 4) float64, each (tx, ty, a, b), of flow (n, p, 2) at points (p, 2), weighed by trust.

    trust: (n, p, 3), the entries xx, yy and xy of K. Candidates are rest, the similarity of most points (RANSAC,
    Fischler & Bolles 1981), and that of most others. The one wins with which the points near the frame's border agree,
    since what moves of its own is rarely all around. It is refined by weighted least squares, where weights fall with
    the error (Geman & McClure 1987), so that a second motion has no influence.
    """
    root = _root(trust)
    rows = similarity(points).reshape(-1, 4)  # (2 p, 4)
    lines = _apply(root, rows.reshape(1, len(points), 2, 4)).reshape(len(flow), -1, 4)
    seen = _apply(root, flow[..., None]).reshape(len(flow), -1)
    edge = np.abs(points / np.abs(points).max(0)).max(1) ** 2 * (trust[..., 0] + trust[..., 1])
    found = np.stack([_candidates(*each, points) for each in zip(flow, trust, strict=True)], 1)  # (3, n, 4)
    agreement = [(edge * _agreement(model, lines, seen, rows, WIDE[0])).sum(1) for model in found]
    model = found[np.argmax(agreement, 0), np.arange(len(flow))]
    # A trace of a prior for rest, of the weight of a hundredth of a point, where nothing else says anything.
    prior = 0.01 * np.eye(4)
    for wide in WIDE:
        weight = np.repeat(_agreement(model, lines, seen, rows, wide), 2, 1)
        weighed = (lines * weight[..., None]).swapaxes(1, 2)
        model = np.linalg.solve(weighed @ lines + prior, weighed @ seen[..., None])[..., 0]
    return model


def similarity(points: np.ndarray) -> np.ndarray:
    """(p, 2, 4): what (tx, ty, a, b) does to x and y of each of points (p, 2)."""
    x, y = points.T
    one, nothing = np.ones_like(x), np.zeros_like(x)
    return np.stack([one, nothing, x, -y, nothing, one, y, x], 1).reshape(-1, 2, 4)


def composed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The similarity (4,) of two, one after the other; as complex numbers, x -> x + t + m x with m = a + i b."""
    (t1, m1), (t2, m2) = ((complex(*each[:2]), complex(*each[2:])) for each in (first, second))
    t, m = t1 + t2 + m2 * t1, m1 + m2 + m1 * m2
    return np.array([t.real, t.imag, m.real, m.imag])


def motion_of(model: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The flow (n, p, 2) of similarities (n, 4) at points (p, 2)."""
    return (model @ similarity(points).reshape(-1, 4).T).reshape(len(model), len(points), 2)


def steps(model: np.ndarray, aspect: float) -> np.ndarray:
    """The camera's steps (n, 4), as in `Path`, that make content move by similarities (n, 4): it moves against it.

    Panned and tilted is by the axes and size half way, so that the way back has the same steps with the other sign.
    """
    a, b = model[:, 2:].T
    half = (model[:, 0] + 1j * model[:, 1]) / (1 + (a + 1j * b) / 2)
    tx, ty, diagonal = half.real, half.imag, np.hypot(aspect, 1)
    scale = np.log(np.hypot(1 + a, b))
    return np.stack([-tx * diagonal / aspect, ty * diagonal, scale, np.arctan2(b, 1 + a)], 1)


def _root(trust: np.ndarray) -> np.ndarray:
    """The square roots of symmetric matrices (n, p, 3), entries xx, yy, xy; by the theorem of Cayley and Hamilton."""
    xx, yy, xy = np.moveaxis(trust, -1, 0)
    root = np.sqrt(np.maximum(xx * yy - xy * xy, 0))
    scale = np.sqrt(np.maximum(xx + yy + 2 * root, 1e-12))
    return np.stack([xx + root, yy + root, xy], -1) / scale[..., None]


def _apply(root: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Symmetric matrices (n, p, 3) times vectors (..., p, 2, m)."""
    xx, yy, xy = (part[..., None] for part in np.moveaxis(root, -1, 0))
    x, y = vectors[..., 0, :], vectors[..., 1, :]
    return np.stack([xx * x + xy * y, xy * x + yy * y], -2)


def _agreement(model: np.ndarray, lines: np.ndarray, seen: np.ndarray, rows: np.ndarray, wide: float) -> np.ndarray:
    """Weights (n, p) in (0, 1] of points under similarities (n, 4), whose errors may be `wide` times those of flow."""
    off = (lines @ model[..., None])[..., 0] - seen
    moved = model @ rows.T
    off, moved = (np.square(each[:, ::2]) + np.square(each[:, 1::2]) for each in (off, moved))
    return 1 / np.square(1 + off / np.square(wide * (NEAR + NEAR_SHARE * np.sqrt(moved))))


def _candidates(flow: np.ndarray, trust: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(3, 4): rest, the similarity of most points that have texture in both directions, and that of most others."""
    models = np.zeros((3, 4))
    xx, yy, xy = trust.T
    least = (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy)  # eigenvalue
    left = np.flatnonzero(least > 0.5)
    for model in models[1:]:
        if len(left) < 8:
            break
        start = points[left]
        limit = WIDE[0] * (NEAR + NEAR_SHARE * float(np.linalg.norm(flow[left], axis=1).mean()))
        matrix, inside = cv2.estimateAffinePartial2D(
            start, start + flow[left], ransacReprojThreshold=limit, maxIters=300, refineIters=0
        )
        if matrix is None:
            break
        model[:] = matrix[0, 2], matrix[1, 2], matrix[0, 0] - 1, matrix[1, 0]
        left = left[inside.ravel() == 0]
    return models
