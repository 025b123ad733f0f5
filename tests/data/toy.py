"""Stages simple enough to know their values, for the tests of curation; decoding workers import them."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from diorama.core.files import write_text
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


@dataclass(frozen=True)
class Relative:
    """A clip's brightness beside the mean of a sample, and the words of its caption."""

    sample: int = 100
    name: ClassVar[str] = "relative"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"excess": float, "count": int, "vector": np.ndarray}
    reads: ClassVar[tuple[str, ...]] = ("bright.mean", "caption")
    weights: ClassVar[tuple[Path, ...]] = ()

    def prepare(self, models: Path, sample: Callable[[int], pa.Table]) -> Callable[[pa.Table], Mapping[str, Sequence]]:
        if not (models / "mean.txt").exists():
            write_text(models / "mean.txt", str(np.mean(sample(self.sample)["bright.mean"].to_pylist())))
        mean = float((models / "mean.txt").read_text())

        def batch(table: pa.Table) -> dict[str, list[Any]]:
            excess = [value - mean for value in table["bright.mean"].to_pylist()]
            count = [len(words.split()) if words else 0 for words in table["caption"].to_pylist()]
            vectors = [np.float32(pair) for pair in zip(excess, count, strict=True)]
            return {"excess": excess, "count": count, "vector": vectors}

        return batch


@dataclass(frozen=True)
class Halves:
    """Cuts a video where its mean first reaches `level`."""

    level: int = 100
    name: ClassVar[str] = "halves"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"starts": list[int], "ends": list[int], "seconds": list[float]}

    def __call__(self, media: Media) -> dict[str, Any]:
        if media.times is None:
            return dict.fromkeys(self.columns)
        t = len(media.frames)
        above = np.flatnonzero(media.frames.mean((1, 2, 3)) >= self.level)
        starts = [0, int(above[0])] if len(above) else [0]
        return {"starts": starts, "ends": [*starts[1:], t], "seconds": [float(media.times[s]) for s in starts]}


@dataclass(frozen=True)
class Fatal:
    """Ends its process, as a library in C may."""

    name: ClassVar[str] = "fatal"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"size": int}

    def __call__(self, media: Media) -> dict[str, Any]:
        os._exit(1)
