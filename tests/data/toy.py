"""Stages simple enough to know their values, for the tests of curation; decoding workers import them."""

from dataclasses import dataclass
from typing import Any, ClassVar

from diorama.media import Media


@dataclass(frozen=True)
class Bright:
    """Mean and largest value of all frames, times `gain`."""

    gain: float = 1.0
    name: ClassVar[str] = "bright"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"mean": float, "most": int, "frames": list[float], "missing": float}

    def __call__(self, media: Media) -> dict[str, Any]:
        means = (self.gain * media.frames.mean((1, 2, 3))).tolist()
        return {"mean": sum(means) / len(means), "most": int(media.frames.max()), "frames": means, "missing": None}


@dataclass(frozen=True)
class Picky:
    """Fails on all but stills."""

    name: ClassVar[str] = "picky"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"height": int}

    def __call__(self, media: Media) -> dict[str, Any]:
        (frame,) = media.frames
        return {"height": frame.shape[0]}


@dataclass(frozen=True)
class Wrong:
    """Promises a number and gives a word."""

    name: ClassVar[str] = "wrong"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"height": int}

    def __call__(self, media: Media) -> dict[str, Any]:
        return {"height": "tall"}
