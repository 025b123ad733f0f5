"""What the tests of runners curate by; workers import it."""

import os
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from diorama.data import Curation, Drop, Where
from diorama.data.stages import Signature, Technical
from diorama.media import Media
from tests.data.toy import Bright, Halves, Picky, Wrong


@dataclass(frozen=True)
class Slow:
    """Takes its time."""

    seconds: float = 0.2
    name: ClassVar[str] = "slow"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"t": int}

    def __call__(self, media: Media) -> dict[str, Any]:
        time.sleep(self.seconds)
        return {"t": len(media.frames)}


@dataclass(frozen=True)
class Deadly:
    """Ends its process at pictures of one size."""

    height: int = 18
    name: ClassVar[str] = "deadly"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"h": int}

    def __call__(self, media: Media) -> dict[str, Any]:
        if media.frames.shape[1] == self.height:
            os._exit(1)
        return {"h": media.frames.shape[1]}


POLICY = Curation(
    cut=Halves(140),
    stages=(Bright(), Picky(), Wrong(), Deadly(), Technical(), Signature(), Slow()),
    rules=(Drop("bright", (Where("bright.mean", above=140.0),)),),
)
