"""Technical measures of what moves and what sounds: duplicates, motion, flicker, overlays; level, silence, clipping.

Moving pictures are measured on all frames, at a reduced size: luma, its shorter side about 36 pixels, each the mean of
those it covers, which all but removes noise. Both functions serve `diorama.data.stages.technical`.
"""

from itertools import pairwise

import cv2
import numpy as np

Row = dict[str, float | None]

SHORT_SIDE = 36  # of the reduced frames
OVERLAY_FRAMES, OVERLAY_SIDE = 12, 144  # frames, evenly spaced, and their shorter side, on which overlays are sought
SAME = 2  # levels: no cell of a duplicate differs by more
STILL = 6  # levels: a cell that never ranges wider does not change
QUIET = -60.0  # dBFS of a stretch that counts as silence
STRETCH = 0.05  # seconds over which silence is judged

VIDEO: dict[str, str] = {
    "motion": "median over neighbouring frames of their mean difference, levels",
    "change": "share of the picture that changes at any time, 0 to 1; 0 is static",
    "frozen": "share of frames that duplicate the one before, 0 to 1",
    "hold": "longest run of such duplicates, as a share of the frames, 0 to 1: a frozen picture, not a quiet one",
    "cadence": "how well duplicates keep a period of 2 to 6 frames, 0 (not, or none) to 1: frame rate raised, telecine",
    "flicker": "mean amplitude by which brightness goes up and down again from frame to frame, levels",
    "ramp": "motion in the second half over that in the first, octaves; 0 is an even speed",
    "overlay": "share of pixels on edges that stay while the picture around them changes, 0 to 1: logo, caption",
}
SOUND: dict[str, str] = {
    "sound": "whether a video has sound, 0 or 1",
    "sound_level": "root mean square of the sound, dBFS, -120 (none) to 0",
    "silence": f"share of the time in which the sound is below {QUIET:g} dBFS, 0 to 1",
    "sound_clipping": "share of samples at full scale in any channel, 0 to 1",
}


def video(frames: np.ndarray) -> Row:
    """`VIDEO`'s measures of frames (t, h, w, 3) uint8; all None for fewer than two."""
    row: Row = dict.fromkeys(VIDEO)
    if len(frames) < 2:
        return row
    small = np.stack([_reduced(frame, SHORT_SIDE) for frame in frames])
    steps = [cv2.absdiff(one, other) for one, other in pairwise(small)]
    same = np.array([step.max() <= SAME for step in steps])
    speed = np.array([step.mean() for step in steps])
    row["motion"] = float(np.median(speed))
    row["change"] = float(np.mean(np.ptp(small, 0) > STILL))
    row["frozen"] = float(same.mean())
    row["hold"] = float(np.diff(np.flatnonzero(np.r_[True, ~same, True])).max() - 1) / len(same)
    row["cadence"] = _cadence(same)
    row["flicker"] = _flicker(small.mean((1, 2), dtype=np.float64))
    row["ramp"] = _ramp(speed[~same])
    row["overlay"] = _overlay(frames)
    return row


def _reduced(frame: np.ndarray, short_side: int) -> np.ndarray:
    h, w = frame.shape[:2]
    share = min(1.0, short_side / min(h, w))
    if share < 1:
        size = max(1, round(w * share)), max(1, round(h * share))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def _cadence(same: np.ndarray) -> float:
    """The largest share of the variance of `same` (pairs,) bool that its mean by phase explains, over periods 2 to 6.

    A period must come round three times. Every second frame twice is period 2, 24 frames a second shown at 60 period 5.
    """
    total, best = float(same.var()), 0.0
    for period in range(2, min(6, len(same) // 3) + 1) if total else ():
        phases = [same[i::period] for i in range(period)]
        within = sum(phase.var() * len(phase) for phase in phases) / len(same)
        best = max(best, float(1 - within / total))
    return best


def _flicker(brightness: np.ndarray) -> float:
    """Of neighbouring changes of brightness (t,) with opposite signs, the smaller; mean over all neighbours."""
    up = np.diff(brightness)
    back = -up[:-1] * np.sign(up[1:]) > 0
    return float(np.where(back, np.minimum(np.abs(up[:-1]), np.abs(up[1:])), 0).mean()) if len(back) else 0.0


def _ramp(speed: np.ndarray) -> float | None:
    """Octaves between the median motion (steps,) of both halves, duplicates left out; None without enough motion."""
    half = len(speed) // 2
    if half < 3:
        return None
    first, second = np.median(speed[:half]), np.median(speed[-half:])
    return float(np.log2((second + 0.1) / (first + 0.1)))  # a tenth of a level is no motion, and no infinite ratio


def _overlay(frames: np.ndarray) -> float | None:
    """Share of pixels whose gradient points one way in every frame, steeply, though the picture around them changes.

    An edge of the scene moves away or is covered at some time; one laid over it never. Twice the smaller share, of
    gradients across and of those down: a straight edge of the scene that moves along itself stays as well, but runs one
    way, and strokes run both. None where next to nothing changes: on a still picture an overlay cannot be told.
    """
    t = len(frames)
    chosen = sorted({round(i) for i in np.linspace(0, t - 1, min(t, OVERLAY_FRAMES))})
    stack = [_reduced(frames[i], OVERLAY_SIDE) for i in chosen]
    gradients = [[g.astype(np.float32) / 8 for g in cv2.spatialGradient(frame)] for frame in stack]
    x, y = (sum(g) / len(stack) for g in zip(*gradients, strict=True))
    steepness = np.hypot(x, y) + 1e-6
    least = np.min([dx * x + dy * y for dx, dy in gradients], axis=0) / steepness  # along the mean direction
    spread = cv2.blur(np.std(stack, axis=0, dtype=np.float32), (7, 7))
    changing = cv2.erode(spread, np.ones((5, 5), np.uint8)) > 8  # levels
    if changing.mean() < 0.02:
        return None
    stays = changing & (least > 12) & (least > 0.5 * steepness)
    across = np.abs(x) >= np.abs(y)
    return 2 * float(min(np.mean(stays & across), np.mean(stays & ~across)))


def sound(samples: np.ndarray | None, rate: int | None, is_video: bool) -> Row:
    """`SOUND`'s measures of samples (n, channels) float32 in [-1, 1] at `rate` Hz; all None for a still."""
    row: Row = dict.fromkeys(SOUND)
    if not is_video and samples is None:
        return row
    if samples is None or not samples.size or not rate:
        return row | {"sound": 0.0}
    power = np.square(samples, dtype=np.float32).mean(1)
    stretch = max(1, min(round(STRETCH * rate), len(power)))
    stretches = power[: len(power) // stretch * stretch].reshape(-1, stretch).mean(1)
    return {
        "sound": 1.0,
        "sound_level": _decibels(power.mean(dtype=np.float64)),
        "silence": float(np.mean(stretches < 10 ** (QUIET / 10))),
        "sound_clipping": float(np.mean(np.abs(samples).max(1) >= 0.999)),
    }


def _decibels(power: float) -> float:
    return float(10 * np.log10(max(power, 1e-12)))
