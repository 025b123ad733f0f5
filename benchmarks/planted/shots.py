"""Videos of shots whose transitions are known: virtual cameras over large pictures, joined by cuts, dissolves, fades.

Within a shot there may be an event that is no transition and tempts a detector: a flash, a strobe, a whip pan, a crash
zoom, a large object that passes before the camera, a drift of exposure, a title that fades in. Neighbouring shots may
be two views of one picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from diorama.data.stages.shots import Transition

RATE = 25.0
H, W = 144, 256
KINDS = {"cut": 0.6, "dissolve": 0.25, "fade": 0.15}
EVENTS = ("flash", "strobe", "whip", "zoom", "occlusion", "exposure", "title")
MIXED = 0.1  # share of cuts with a frame of both shots
MARGIN = 6  # frames of a shot at each end that are free of events


@dataclass(frozen=True)
class Planted:
    """A video and what is true of it.

    frames: (t, h, w, 3) uint8. truth: as `diorama.data.stages.shots.transitions` gives them; score 1.
    events: (name, start, end) of what is no transition.
    """

    frames: np.ndarray
    rate: float
    truth: tuple[Transition, ...]
    events: tuple[tuple[str, int, int], ...]


def video(rng: np.random.Generator, pictures: Sequence[np.ndarray], shots: int = 10) -> Planted:
    """A video of `shots` shots of 25 to 70 frames over `pictures` (h, w, 3) uint8, each at least 256 pixels high."""
    kinds = [str(kind) for kind in rng.choice(list(KINDS), shots - 1, p=list(KINDS.values()))]
    lengths = [_span(rng, kind) for kind in kinds]
    picture = rng.integers(len(pictures), size=shots)
    similar = rng.random(shots) < 0.15
    frames: list[np.ndarray] = []
    truth: list[Transition] = []
    events: list[tuple[str, int, int]] = []
    corner = None
    for i in range(shots):
        before, after = (lengths[i - 1] if i else 0), (lengths[i] if i < shots - 1 else 0)
        if i and similar[i]:
            picture[i] = picture[i - 1]
        elif i and picture[i] == picture[i - 1]:
            picture[i] = (picture[i] + 1) % len(pictures)
        t = int(rng.integers(25, 70)) + before + after
        avoid = corner if i and picture[i] == picture[i - 1] else None
        shot, event, corner = _shot(rng, pictures, int(picture[i]), t, before, after, avoid)
        if event:
            events.append((event[0], len(frames) + event[1], len(frames) + event[2]))
        if i:
            kind = kinds[i - 1]
            start, end = _join(rng, kind, frames, shot, before)
            if kind == "dissolve" and event:
                events[-1] = (event[0], start + event[1], start + event[2])
            truth.append(Transition(kind, start, end, 1.0))
        else:
            frames.extend(shot)
    return Planted(_film(rng, frames), RATE, tuple(truth), tuple(events))


def _span(rng: np.random.Generator, kind: str) -> int:
    """How many frames of either shot a transition uses."""
    return {"cut": 0, "dissolve": int(rng.integers(8, 31)), "fade": int(rng.integers(6, 21))}[kind]


def _join(rng: np.random.Generator, kind: str, frames: list, shot: list, n: int) -> tuple[int, int]:
    """Append `shot` to `frames` by a transition over `n` frames of each; returns its span."""
    start = len(frames) - n
    if kind == "cut":
        mixed = rng.random() < MIXED  # as conversions between frame rates leave it
        if mixed:
            shot[0] = cv2.addWeighted(frames[-1], share := rng.uniform(0.2, 0.8), shot[0], 1 - share, 0)
        frames.extend(shot)
        return start, start + mixed
    weights = np.arange(1, n + 1) / (n + 1)
    if kind == "dissolve":
        for k, weight in enumerate(weights):
            frames[start + k] = cv2.addWeighted(frames[start + k], 1 - weight, shot[k], weight, 0)
        frames.extend(shot[n:])
        return start, start + n
    blank = np.full_like(shot[0], 255 if rng.random() < 0.3 else rng.integers(0, 12))
    for k, weight in enumerate(weights):
        frames[start + k] = cv2.addWeighted(frames[start + k], 1 - weight, blank, weight, 0)
        shot[k] = cv2.addWeighted(blank, 1 - weight, shot[k], weight, 0)
    frames.extend([blank] * int(rng.integers(0, 8)))
    end = len(frames) + n
    frames.extend(shot)
    return start, end


def _film(rng: np.random.Generator, frames: list[np.ndarray]) -> np.ndarray:
    """What befalls a video as a whole: bars or a caption before everything, grain, compression."""
    strength, quality = rng.choice([0, 0, 2, 4, 7]), int(rng.integers(35, 95))
    grain = rng.normal(0, strength, (2 * H, 2 * W, 1)).astype(np.float32)
    bar = int(H * rng.uniform(0.06, 0.14)) if rng.random() < 0.25 else 0
    caption = _letters(rng, 0.17, 0.5, 6)
    captioned = rng.random() < 0.2
    out = np.empty((len(frames), H, W, 3), np.uint8)
    for k, frame in enumerate(frames):
        y, x = rng.integers(0, H), rng.integers(0, W)
        noisy = np.clip(frame + grain[y : y + H, x : x + W], 0, 255).astype(np.uint8) if strength else frame.copy()
        noisy[:bar] = noisy[H - bar :] = 0
        if captioned:
            np.maximum(noisy, 255 * caption, out=noisy)
        coded = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        out[k] = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return out


@dataclass
class _Camera:
    """Where a camera looks in each frame: centre (t, 2) as x, y and width (t,) in pixels of the picture, roll (t,)."""

    centre: np.ndarray
    width: np.ndarray
    roll: np.ndarray

    def view(self, picture: np.ndarray, k: int, at: float = 0.0) -> np.ndarray:
        """Frame k + at of the picture, (H, W, 3)."""
        times = np.arange(len(self.width))
        x, y, width, roll = (np.interp(k + at, times, values) for values in (*self.centre.T, self.width, self.roll))
        c, s = np.cos(roll) * width / W, np.sin(roll) * width / W
        matrix = np.array([[c, -s, x - c * W / 2 + s * H / 2], [s, c, y - s * W / 2 - c * H / 2]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(picture, matrix, (W, H), flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def _camera(rng: np.random.Generator, picture: np.ndarray, t: int, avoid: np.ndarray | None) -> _Camera:
    """A static, panning, zooming or handheld camera; if it may be, away from the centre `avoid`."""
    h, w = picture.shape[:2]
    width = rng.uniform(0.4, 0.75) * min(w, h * W / H) * (0.7 if avoid is not None else 1)
    low, high = np.array([width, width * H / W]) / 2, np.array([w, h]) - np.array([width, width * H / W]) / 2
    tries = rng.uniform(low, high, (20, 2))
    start = tries[0] if avoid is None else tries[np.argmax(np.abs(tries - avoid).max(-1))]
    style = rng.choice(["static", "pan", "zoom", "handheld"], p=[0.2, 0.3, 0.15, 0.35])
    centre, widths, roll = np.tile(start, (t, 1)), np.full(t, width), np.zeros(t)
    if style == "pan":
        way = np.array([w, h]) / 2 - start
        way = way / (np.linalg.norm(way) + 1e-6) + rng.normal(0, 0.4, 2)
        centre += way * width * rng.uniform(0.002, 0.02) * np.arange(t)[:, None]
    elif style == "zoom":
        widths *= np.exp(rng.choice([-1, 1]) * rng.uniform(0.003, 0.014) * (np.arange(t) - t / 2))
    elif style == "handheld":
        shake = cv2.GaussianBlur(rng.normal(0, 1, (t, 3)), (1, 0), sigmaX=0.1, sigmaY=rng.uniform(1.5, 5))  # type: ignore[call-overload]
        shake *= rng.uniform(0.3, 1.5) / max(shake.std(), 1e-6)
        centre += shake[:, :2] * width * 0.012
        roll += shake[:, 2] * 0.008
    return _Camera(centre, widths, roll)


def _shot(
    rng: np.random.Generator, pictures: Sequence[np.ndarray], which: int, t: int, before: int, after: int,
    avoid: np.ndarray | None,
) -> tuple[list[np.ndarray], tuple[str, int, int] | None, np.ndarray]:  # fmt: skip
    """t frames, the event among them if there is one, and the camera's last centre."""
    picture = pictures[which]
    camera = _camera(rng, picture, t, avoid)
    first, last = before + MARGIN, t - after - MARGIN
    event = str(rng.choice(EVENTS)) if rng.random() < 0.5 else ""
    n = min(last - first, {"flash": int(rng.integers(1, 6)), "whip": int(rng.integers(5, 13))}.get(
        event, int(rng.integers(10, 31))))  # fmt: skip
    start = int(rng.integers(first, last - n + 1))
    if event in ("whip", "zoom"):
        _move(rng, camera, event, start, n, picture.shape)
    things = [_Thing.drawn(rng, pictures, t) for _ in range(rng.integers(0, 3))]
    if event == "occlusion":
        things.append(_Thing.drawn(rng, pictures, t, (start, n)))
    light = _light(rng, event, start, n, t)
    water = _Water.drawn(rng) if rng.random() < 0.2 else None
    title, bright = _letters(rng, rng.uniform(0.15, 0.4), rng.uniform(0.25, 0.55), 10), rng.choice([20, 250])
    frames = []
    for k in range(t):
        blur = event == "whip" and start <= k < start + n
        views = [camera.view(picture, k, at) for at in ((0, 0.2, 0.4, 0.6) if blur else (0,))]
        frame = np.mean(views, 0) if blur else views[0]
        frame = water.over(frame, k) if water else frame
        for thing in things:
            frame = thing.over(frame, k)
        gain, offset = light[k]
        if event == "title":
            frame = frame + np.clip((k - start) / n, 0, 1) * title * (bright - frame.astype(np.float32))
        frames.append(np.clip(frame * gain + offset, 0, 255).astype(np.uint8))
    return frames, ((event, start, start + n) if event else None), camera.centre[-1]


def _letters(rng: np.random.Generator, height: float, width: float, size: int) -> np.ndarray:
    """Something like writing, squares of `size` pixels, over a part of the view: (H, W, 1) uint8 of 0 and 1."""
    h, w = int(H * height) // size, int(W * width) // size
    y, x = rng.integers(0, H - h * size), rng.integers(0, W - w * size)
    there = np.zeros((H, W, 1), np.uint8)
    there[y : y + h * size, x : x + w * size, 0] = rng.integers(0, 2, (h, w)).repeat(size, 0).repeat(size, 1)
    return there


def _move(rng: np.random.Generator, camera: _Camera, event: str, start: int, n: int, shape: tuple) -> None:
    """A whip pan towards the picture's other side, or a crash zoom, over n frames from start."""
    t = len(camera.width)
    ramp = np.clip((np.arange(t) - start) / n, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    if event == "zoom":
        camera.width *= np.exp(rng.choice([-1, 1]) * rng.uniform(0.3, 0.7) * ramp)
    else:
        side = np.sign(shape[1] / 2 - camera.centre[start, 0]) or 1.0
        way = np.array([side, rng.normal(0, 0.15)]) * camera.width[0] * rng.uniform(0.5, 1.1)
        camera.centre += way * ramp[:, None]


def _light(rng: np.random.Generator, event: str, start: int, n: int, t: int) -> np.ndarray:
    """Gain and offset (grey levels) of each frame, (t, 2)."""
    light = np.tile([rng.uniform(0.15, 0.4) if rng.random() < 0.1 else 1.0, 0.0], (t, 1))  # some shots are dark
    if event == "flash":
        decay = rng.uniform(0.3, 1) ** np.arange(n)
        light[start : start + n] += decay[:, None] * [rng.uniform(0.5, 3), rng.uniform(0, 150)]
    elif event == "strobe":
        period = int(rng.integers(1, 5))
        on = np.arange(n) // period % 2 == 0
        light[start : start + n][on] = [rng.uniform(1.3, 2.5), rng.uniform(0, 60)]
    elif event == "exposure":
        ramp = np.clip((np.arange(t) - start) / n, 0, 1)
        light[:, 0] *= np.exp(rng.uniform(-0.8, 0.6) * ramp)
    return light


@dataclass
class _Thing:
    """An ellipse of another picture that moves before the camera."""

    texture: np.ndarray  # (h, w, 3)
    mask: np.ndarray  # (h, w, 1) float32
    corners: np.ndarray  # (t, 2) x, y of its upper left corner

    @classmethod
    def drawn(
        cls, rng: np.random.Generator, pictures: Sequence[np.ndarray], t: int, crossing: tuple[int, int] | None = None
    ) -> "_Thing":
        """A small thing that wanders, or a large one that crosses the view within (start, n)."""
        share = rng.uniform(0.7, 1.2) if crossing else rng.uniform(0.15, 0.45)
        h, w = int(H * share * 1.3), int(W * share * rng.uniform(0.5, 0.9))
        source = pictures[rng.integers(len(pictures))]
        texture = cv2.resize(source, (w, h), interpolation=cv2.INTER_AREA)
        mask = np.zeros((h, w, 1), np.float32)
        cv2.ellipse(mask, (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, 1, -1)  # type: ignore[call-overload]
        y = rng.uniform(-0.2, 0.6) * H
        if crossing:
            start, n = crossing
            x = -w + (W + w) * (np.arange(t) - start) / n
            y = H / 2 - h / 2
        else:
            x = rng.uniform(0, W - w / 2) + rng.uniform(-4, 4) * np.arange(t)
        x = x[::-1] if rng.random() < 0.5 and not crossing else x
        return cls(texture, mask, np.stack([x, np.full(t, y)], -1))

    def over(self, frame: np.ndarray, k: int) -> np.ndarray:
        """The frame with the thing on it."""
        h, w = self.mask.shape[:2]
        x, y = (int(v) for v in self.corners[k])
        left, right, top, bottom = max(x, 0), min(x + w, W), max(y, 0), min(y + h, H)
        if left >= right or top >= bottom:
            return frame
        part = np.s_[top - y : bottom - y, left - x : right - x]
        frame = frame.copy()
        there = frame[top:bottom, left:right]
        frame[top:bottom, left:right] = there + self.mask[part] * (self.texture[part].astype(np.float32) - there)
        return frame


@dataclass
class _Water:
    """Waves that bend the picture: motion that is not rigid."""

    phase: np.ndarray  # (2, H, W) radians
    height: float  # pixels
    speed: float  # radians a frame

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "_Water":
        """Two waves of random directions and lengths."""
        y, x = np.mgrid[:H, :W]
        wave = rng.normal(0, 0.12, (2, 2))
        return cls(np.stack([a * x + b * y for a, b in wave]), rng.uniform(1, 4), rng.uniform(0.1, 0.9))

    def over(self, frame: np.ndarray, k: int) -> np.ndarray:
        """The frame behind the waves."""
        y, x = np.mgrid[:H, :W]
        dx, dy = self.height * np.sin(self.phase + self.speed * k)
        return cv2.remap(
            frame, (x + dx).astype(np.float32), (y + dy).astype(np.float32), cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )  # fmt: skip
