"""What curation notes about a clip once it is decoded.

`Look` runs in the decoding workers, so that only its notes and no pixels cross over. They must stay small: this
module imports neither the rest of `diorama.data` nor anything that loads JAX.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diorama.data.stages.stage import Stage
from diorama.data.strip import Claim, cut
from diorama.media import Media
from diorama.media.media import short


@dataclass(frozen=True)
class Seen:
    """A decoded clip in short."""

    t: int
    h: int
    w: int
    pixels: str  # hash of the frames as stored, and how a strip is cut
    rate: float | None  # frames per second
    sound: bool
    format: str | None
    frame_width: int | None  # of a strip
    rows: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # by stage; {"error": ...} for one that failed


@dataclass(frozen=True)
class Look:
    """Note what a clip is, and what `stages` measure of it; `claim` says whether it may be a strip.

    cut: the stage that says where a file is cut, measured first. The others do not look at a file that is.
    """

    stages: tuple[Stage, ...] = ()
    claim: Claim = field(default_factory=Claim)
    cut: Stage | None = None

    def __call__(self, media: Media) -> Seen:
        """Raises `BadMedia` for a strip that does not divide."""
        digest = hashlib.blake2b(np.ascontiguousarray(media.frames).data, digest_size=16)
        t, h, w, _ = media.frames.shape
        digest.update(f"{t} {h} {w}".encode())
        pixels = digest.hexdigest()
        width = self.claim.width(t, w)
        if width:
            media, pixels = replace(media, frames=cut(media.frames, width)), f"{pixels} {width}"
        t, h, w, _ = media.frames.shape
        rows = {self.cut.name: _measured(self.cut, media)} if self.cut else {}
        if not self.cut or not is_cut(rows[self.cut.name], t):
            rows |= {stage.name: _measured(stage, media) for stage in self.stages if stage != self.cut}
        h, w = media.info.get("size", (h, w))  # of a video that was shrunk to fit into memory
        return Seen(t, h, w, pixels, media.rate, media.sound is not None, media.info.get("format"), width, rows)


def is_cut(row: Mapping[str, Any], t: int) -> bool:
    """Whether a file of `t` frames is more, or less, than one clip, by what its cutting stage found."""
    return bool(row.get("starts")) and (row["starts"], row["ends"]) != ([0], [t])


def _measured(stage: Stage, media: Media) -> Mapping[str, Any]:
    try:
        return stage(media)
    except Exception as error:  # one clip that a stage cannot take must not end the others
        return {"error": f"{type(error).__name__}: {short(error)}"}
