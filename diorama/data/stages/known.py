"""The stages that come with Diorama. None needs weights; any frozen dataclass like these is one too.

They run in the decoding workers, so this module imports nothing that loads JAX.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from diorama.data.stages.hashes import signature
from diorama.data.stages.shots import shots, split_long
from diorama.data.stages.technical import MEASURES, technical
from diorama.media import Media


@dataclass(frozen=True)
class Technical:
    """Exposure, sharpness, noise, compression, borders, motion and sound: one column each of `technical.MEASURES`."""

    name: ClassVar[str] = "technical"
    version: ClassVar[int] = 2
    columns: ClassVar[dict[str, Any]] = dict.fromkeys(MEASURES, float)

    def __call__(self, media: Media) -> dict[str, Any]:
        """As `Stage`."""
        return technical(media)


@dataclass(frozen=True)
class Signature:
    """What near-duplicates are found by: 12 hashes (uint64) and a thumbnail (64 x 64) a frame, of `frames`."""

    name: ClassVar[str] = "signature"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"frames": int, "hashes": bytes, "thumbnails": bytes}

    def __call__(self, media: Media) -> dict[str, Any]:
        """As `Stage`."""
        hashes, thumbnails = signature(media)
        return {"frames": len(hashes), "hashes": hashes.tobytes(), "thumbnails": thumbnails.tobytes()}


@dataclass(frozen=True)
class Shots:
    """The shots of a video, none longer than `longest` seconds: frames [starts, ends), and what ends each.

    seconds: when each starts. count: those before long ones are split. All null for a still. A `Curation` that is
    `cut` by this stage makes a clip of each.
    """

    longest: float = 10.0
    name: ClassVar[str] = "shots"
    version: ClassVar[int] = 2
    columns: ClassVar[dict[str, Any]] = {
        "count": int, "starts": list[int], "ends": list[int], "seconds": list[float], "after": list[str]}  # fmt: skip

    def __call__(self, media: Media) -> dict[str, Any]:
        """As `Stage`."""
        if media.rate is None or media.times is None:
            return dict.fromkeys(self.columns)
        whole = shots(media.frames, media.rate)
        parts = split_long(whole, media.rate, self.longest)
        return {"count": len(whole), "starts": [s.start for s in parts], "ends": [s.end for s in parts],
                "seconds": [float(media.times[s.start]) for s in parts], "after": [s.after for s in parts]}  # fmt: skip
