"""What a file becomes: arrays, or one short reason why not."""

import re
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Colour = tuple[int, int, int]


class BadMedia(Exception):
    """A file that gives no arrays. `reason` is one short line without paths, fit for a table of decisions."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Overrun(BadMedia):
    """A process that decodes, or works on what was decoded, died, hung, or took too much memory."""


@dataclass(frozen=True)
class Media:
    """Frames (and sound) of one file, upright and opaque.

    frames: (t, h, w, 3) uint8 RGB; a still has t = 1. rate: frames per second, None for stills.
    sound: (samples, channels) float32 in [-1, 1], sample 0 at the time of frame 0, or None; sound_rate in Hz.
    times: (t,) float64, when each frame is shown, in seconds of the file; None for stills, and where these do not rise.
    info: what was stored: format, codec, mode, bits, width and height before turning upright, had_alpha,
    orientation, duration (seconds), pixel_aspect, variable_rate, size ((h, w), upright, before frames were shrunk), ...
    only what applies.
    """

    frames: np.ndarray
    rate: float | None = None
    sound: np.ndarray | None = None
    sound_rate: int | None = None
    info: dict[str, Any] = field(default_factory=dict)
    times: np.ndarray | None = None


@dataclass(frozen=True)
class Info:
    """What a header says, nothing decoded: kind is "image" or "video"; h and w are upright.

    t is the number of frames (an estimate from duration and rate where the container does not count), None if unknown.
    """

    kind: str
    t: int | None
    h: int
    w: int
    rate: float | None
    format: str


@dataclass(frozen=True)
class Limits:
    """What one file may cost; beyond it is BadMedia, from the header alone wherever the header says.

    pixels per frame, number of frames, seconds of play, bytes of all decoded arrays, and wall seconds of decoding.
    Pillow itself refuses images above 179 million pixels whatever is allowed here.
    """

    pixels: int = 64_000_000
    frames: int = 20_000
    seconds: float = 600.0
    total_bytes: int = 1 << 30
    timeout: float = 60.0

    def check(self, h: int, w: int, frames: int = 1, seconds: float = 0.0) -> None:
        """Raise BadMedia where `frames` frames of h x w lasting `seconds` break a limit."""
        if h * w > self.pixels:
            raise BadMedia(f"{w}x{h} is more than {self.pixels / 1e6:g} million pixels")
        if frames > self.frames:
            raise BadMedia(f"{frames} frames are more than {self.frames}")
        if seconds > self.seconds:
            raise BadMedia(f"{seconds:.0f} seconds are more than {self.seconds:g}")
        if frames * h * w * 3 > self.total_bytes:
            raise BadMedia(f"{frames} frames of {w}x{h} are more than {self.total_bytes / 1e6:.0f} MB")


class Deadline:
    """Wall time that is left; `check` between frames raises BadMedia when none is."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.end = time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self.end:
            raise BadMedia(f"decoding took longer than {self.seconds:g} seconds")


@dataclass(frozen=True)
class Job:
    """What `read` was asked for, on its way to the decoders."""

    limits: Limits
    background: Colour
    start: float
    count: int | None
    short_side: int | None
    deadline: Deadline
    fit: int | None = None

    def fitting(self, h: int, w: int, frames: int) -> "Job":
        """This job, with a `short_side` at which `frames` frames of h x w take at most `fit` bytes."""
        if self.fit is None or frames * h * w * 3 <= self.fit:
            return self
        side = max(int(min(h, w) * (self.fit / (frames * h * w * 3)) ** 0.5), 1)
        return replace(self, short_side=min(side, self.short_side or side))

    def size(self, h: int, w: int) -> tuple[int, int]:
        """The size at which a frame of h x w is kept: its shorter side at most `short_side`."""
        if self.short_side is None or min(h, w) <= self.short_side:
            return h, w
        share = self.short_side / min(h, w)
        return max(round(h * share), self.short_side), max(round(w * share), self.short_side)

    def check(self, h: int, w: int, frames: int = 1, seconds: float = 0.0) -> None:
        """Raise BadMedia where `frames` stored frames of h x w break a limit, once decoded to the size asked for."""
        self.limits.check(h, w)
        self.limits.check(*self.size(h, w), frames, seconds)


def short(error: BaseException) -> str:
    """An exception as one short line: no object addresses, no paths, no FFmpeg arguments."""
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().splitlines()[0]
    text = re.sub(r"<[^>]*object at 0x[0-9a-f]+>|'[^']*/[^']*'|\([^)]*\)", "", text)
    return re.sub(r"\s+", " ", text).strip(" :;")[:120]


def orient(frames: np.ndarray, transpose: bool, flip_x: bool, flip_y: bool) -> np.ndarray:
    """Turn frames (..., h, w, c): swap the axes first, then mirror in x, then in y. All eight orientations are such."""
    if transpose:
        frames = np.swapaxes(frames, -3, -2)
    if flip_x:
        frames = frames[..., ::-1, :]
    if flip_y:
        frames = frames[..., ::-1, :, :]
    return np.ascontiguousarray(frames)
