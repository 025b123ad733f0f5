"""Videos of exactly known camera motion: a camera over a large picture, and what tempts one to see another motion.

The world is a picture on a wall, mirrored for ever at its edges; each frame is a view of it, warped with sub-pixel
accuracy at twice the size. A thing may pass before the camera; brightness may flicker; there may be noise, bars and a
caption; and every video goes through H.264. Hard negatives are static cameras before large things that move, flicker,
water or a smooth sky.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from diorama.media import read, write_mp4

KINDS = ("static", "pan", "tilt", "zoom", "roll", "shake", "complex")
NEGATIVES = ("large thing", "flicker", "sky", "water")
SPEEDS = {"pan": (0.02, 0.7), "tilt": (0.03, 1.0), "zoom": (0.03, 0.6), "roll": (1.5, 45.0)}  # units of `Planted`
SIZES = ((144, 256), (192, 256), (256, 144), (180, 320), (160, 160))
RATES = (12.0, 24.0, 25.0, 30.0, 50.0)


@dataclass(frozen=True)
class Planted:
    """A video (t, h, w, 3) uint8 and the truth: kind of camera motion, its mean rates, and what else there is.

    rates: widths panned right, heights tilted up, log of the scale zoomed in and degrees rolled counter-clockwise, all
    by the second and means over the video. shake: root mean square sway, diagonals. thing: share of the frame that a
    thing before the camera covers on average.
    """

    frames: np.ndarray
    rate: float
    kind: str
    rates: tuple[float, float, float, float]
    shake: float
    thing: float
    extra: str


def video(rng: np.random.Generator, pictures: Sequence[np.ndarray], kind: str, extra: str = "") -> Planted:
    """A video of a kind of `KINDS` over one of `pictures` (h, w, 3), with `extra`.

    extra: "thing", "noise", "flicker", "caption" or "bars"; or, with a static camera, one of `NEGATIVES`.
    """
    h, w = SIZES[rng.integers(len(SIZES))]
    rate = RATES[rng.integers(len(RATES))]
    t = max(round(rng.uniform(2, 4) * rate), 2)
    picture = pictures[rng.integers(len(pictures))]
    speed, sway = path(rng, kind, t, rate, w / h)
    frames, cover = view(rng, picture, speed, sway, (h, w)), 0.0
    if extra in ("thing", "large thing"):
        other = pictures[rng.integers(len(pictures))]
        share = rng.uniform(0.3, 0.5) if extra == "large thing" else rng.uniform(0.05, 0.25)
        frames, cover = passing(rng, frames, other, share, rate)
    elif extra == "water":
        frames = waves(rng, frames, rate)
    frames = film(rng, frames, extra)
    rates = tuple(speed[1:].mean(0) * [rate, rate, rate, np.degrees(rate)])
    return Planted(coded(rng, frames, rate), rate, kind, rates, spread(sway, w / h), cover, extra)


def path(rng: np.random.Generator, kind: str, t: int, rate: float, aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps (t, 4) of the smooth motion into each frame, the first 0; and the sway's place (t, 4) in each.

    Both as pan (widths), tilt (heights), zoom (log of the scale) and roll (radians, counter-clockwise).
    """
    names = ("pan", "tilt", "zoom", "roll")
    low, high = np.array([SPEEDS[name] for name in names]).T
    speeds = np.exp(rng.uniform(np.log(low), np.log(high))) * rng.choice([-1, 1], 4)
    speeds[2] = np.clip(speeds[2], -1.6 * rate / t, 1.6 * rate / t)  # of a picture's detail no more remains
    reach = np.array([aspect, 1, np.hypot(aspect, 1) / 12**0.5, np.radians(1) * np.hypot(aspect, 1) / 12**0.5])
    step, sway = np.zeros((t, 4)), np.zeros((t, 4))
    if kind in names:
        step[:, names.index(kind)] = speeds[names.index(kind)]
        step *= _pace(rng, t)[:, None]
        if rng.random() < 0.3:  # a hand that shows little
            sway = swaying(rng, t, rate, aspect, rng.uniform(0.02, 0.1) * np.abs(speeds * reach)[names.index(kind)])
    elif kind == "complex":
        first, second = rng.permutation(4)[:2]
        if rng.random() < 0.3:  # there and back
            turns = np.where(np.arange(t) < t * rng.uniform(0.4, 0.6), 1, -1)
            step[:, first] = max(abs(speeds[first]), 3 * low[first]) * turns
        else:  # at once, about as fast
            step[:, first] = np.sign(speeds[first]) * max(abs(speeds[first]), 2 * low[first])
            alike = abs(step[0, first]) * reach[first] / reach[second]
            step[:, second] = np.sign(speeds[second]) * rng.uniform(0.75, 1.33) * alike
    elif kind == "shake":
        sway = swaying(rng, t, rate, aspect, np.exp(rng.uniform(np.log(0.0025), np.log(0.02))) * np.hypot(aspect, 1))
    step *= [1, 1, 1, np.radians(1)]
    step[0] = 0
    return np.r_[step[:1], step[1:] / rate], sway


def _pace(rng: np.random.Generator, t: int) -> np.ndarray:
    """Speeds (t,) of mean 1: even, or slow at the start and the end."""
    if rng.random() < 0.5:
        return np.ones(t)
    pace = np.sin(np.linspace(0.1, np.pi - 0.1, t)) ** rng.uniform(0.3, 1)
    return pace / pace[1:].mean()


def swaying(rng: np.random.Generator, t: int, rate: float, aspect: float, size: float) -> np.ndarray:
    """A hand's sway (t, 4) between 0.7 and 5 Hz, its root mean square `size` heights, most of it pan and tilt."""
    n = max(t, round(8 * rate))
    frequency = np.fft.rfftfreq(n, 1 / rate)
    band = (frequency > 0.7) & (frequency < 5)
    falling = np.where(band, 1 / np.maximum(frequency, 0.1), 0)
    spectrum = np.fft.rfft(rng.standard_normal((n, 4)), axis=0) * falling[:, None]
    place = np.fft.irfft(spectrum, n, axis=0)[:t]
    place = place / np.maximum(place.std(0), 1e-9) * [1, 1, 0.2, 0.3]
    place -= place.mean(0)
    place *= size / np.sqrt(np.square(place).sum(1).mean())
    return place / [aspect, 1, np.hypot(aspect, 1) / 12**0.5, np.hypot(aspect, 1) / 12**0.5]


def spread(sway: np.ndarray, aspect: float) -> float:
    """Root mean square of sway (t, 4) about its mean, in diagonals."""
    lengths = (sway - sway.mean(0)) * [aspect / np.hypot(aspect, 1), 1 / np.hypot(aspect, 1), 12**-0.5, 12**-0.5]
    return float(np.sqrt(np.square(lengths).sum(1).mean()))


def view(
    rng: np.random.Generator, picture: np.ndarray, steps: np.ndarray, sway: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """What a camera sees of a picture: (t, *size, 3). Its steps are by its own axes and size at the time."""
    h, w = size
    ph, pw = picture.shape[:2]
    centre, roll = np.array([pw, ph]) * rng.uniform(0.35, 0.65, 2), rng.uniform(-0.2, 0.2)
    width = 0.6 * min(pw, ph * w / h) * np.exp(steps[:, 2].sum() / 2)  # a zoom's range lies about that
    frames = np.empty((len(steps), h, w, 3), np.uint8)
    places = np.diff(sway, axis=0, prepend=np.zeros((1, 4)))
    for k, (pan, tilt, zoom, turn) in enumerate(steps + places):
        # Half the zoom and turn before the move and half after: as if all three went on together.
        width, roll = width * np.exp(-zoom / 2), roll - turn / 2
        c, s = np.cos(roll), np.sin(roll)
        centre = centre + np.array([[c, -s], [s, c]]) @ [pan * width, -tilt * width * h / w]
        width, roll = width * np.exp(-zoom / 2), roll - turn / 2
        c, s = np.cos(roll) * width / (2 * w), np.sin(roll) * width / (2 * w)
        turned = np.array([[c, -s], [s, c]])
        matrix = np.c_[turned, centre - turned @ [w - 0.5, h - 0.5]]
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        large = cv2.warpAffine(picture, matrix, (2 * w, 2 * h), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        frames[k] = cv2.resize(large, (w, h), interpolation=cv2.INTER_AREA)
    return frames


def passing(
    rng: np.random.Generator, frames: np.ndarray, texture: np.ndarray, share: float, rate: float
) -> tuple[np.ndarray, float]:
    """An ellipse of `texture` that covers `share` of the frame and moves its own way; and what it covers on average."""
    t, h, w, _ = frames.shape
    ratio = rng.uniform(0.6, 1.6)
    half = np.sqrt(share * w * h / np.pi) * np.array([ratio**0.5, ratio**-0.5])
    angle = rng.uniform(0, 2 * np.pi)
    speed = rng.uniform(0.06, 0.3) * np.array([np.cos(angle), np.sin(angle)]) * np.hypot(w, h) / rate
    start = np.array([w, h]) * rng.uniform(0.4, 0.6, 2) - speed * t / 2
    y, x = np.mgrid[:h, :w].astype(np.float32)
    out, cover = np.empty_like(frames), 0.0
    for k in range(t):
        cx, cy = start + speed * k
        away = np.hypot((x - cx) / half[0], (y - cy) / half[1])
        mask = np.clip((1 - away) * half.min() + 0.5, 0, 1)[..., None]
        matrix = np.array([[1, 0, texture.shape[1] / 2 - cx], [0, 1, texture.shape[0] / 2 - cy]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        thing = cv2.warpAffine(texture, matrix, (w, h), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        out[k] = frames[k] + mask * (thing.astype(np.float32) - frames[k])
        cover += float(mask.mean()) / t
    return out, cover


def waves(rng: np.random.Generator, frames: np.ndarray, rate: float) -> np.ndarray:
    """The lower part of the frames, a quarter to a half, as if seen in moving water."""
    t, h, w, _ = frames.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    deep = np.clip((y / h - rng.uniform(0.5, 0.75)) * 10, 0, 1) * h * 0.01
    wave, speed = rng.normal(0, 12 / h, (2, 2)), rng.uniform(2, 8, 2) / rate
    out = np.empty_like(frames)
    for k in range(t):
        phases = (a * x + b * y + s * k for (a, b), s in zip(wave, speed, strict=True))
        dx, dy = ((deep * np.sin(phase)).astype(np.float32) for phase in phases)
        out[k] = cv2.remap(frames[k], x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return out


def film(rng: np.random.Generator, frames: np.ndarray, extra: str) -> np.ndarray:
    """What befalls a video as a whole: noise, and with `extra` strong noise, flicker, a caption or bars."""
    t, h, w, _ = frames.shape
    strength = rng.uniform(4, 9) if extra == "noise" else rng.uniform(0, 3)
    gain = np.ones(t)
    if extra == "flicker":
        even = rng.random() < 0.5
        wave = np.sin(np.arange(t) * rng.uniform(0.5, 3)) if even else rng.standard_normal(t)
        gain += rng.uniform(0.05, 0.2) * wave
    caption = np.zeros((h, w, 1), np.float32)
    if extra == "caption":
        top, left, high, wide = round(0.8 * h), round(0.15 * w), round(0.12 * h), round(0.7 * w)
        letters = rng.integers(0, 2, (-(-high // 4), -(-wide // 4))).repeat(4, 0).repeat(4, 1)[:high, :wide]
        caption[top : top + high, left : left + wide, 0] = letters
    bar = round(h * rng.uniform(0.06, 0.14)) if extra == "bars" else 0
    out = np.empty_like(frames)
    for k in range(t):
        frame = frames[k] * gain[k]
        frame += caption * (245 - frame)
        frame[:bar] = frame[h - bar :] = 0
        out[k] = np.clip(frame + rng.normal(0, strength, frame.shape), 0, 255)
    return out


def coded(rng: np.random.Generator, frames: np.ndarray, rate: float) -> np.ndarray:
    """The frames after H.264 of good to poor quality."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coded.mp4"
        write_mp4(path, frames, rate, quality=int(rng.integers(18, 33)))
        return read(path).frames
