"""What a metric sees: a named function from clips to vectors."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from diorama.evaluate.frechet import Moments


@dataclass(frozen=True)
class Features:
    """A feature extractor and the name under which its scores are reported.

    `function` maps clips (b, t, h, w, c) uint8 to (b, d) float; a clip's vector must not depend on the other clips.
    """

    name: str
    function: Callable[[UInt8[np.ndarray, "b t h w c"]], Float[np.ndarray, "b d"]]

    def __call__(self, clips: UInt8[np.ndarray, "b t h w c"]) -> Float[np.ndarray, "b d"]:
        """Features of the clips, (b, d)."""
        return self.function(clips)

    def moments(self, clips: UInt8[np.ndarray, "b t h w c"], block: int = 1024) -> Moments:
        """The clips' `Moments`, a block at a time, for sets whose features would not fit in memory."""
        whole = Moments.of(self(clips[:block]))
        for i in range(block, len(clips), block):
            whole = whole.merge(Moments.of(self(clips[i : i + block])))
        return whole


def quantise(media: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Media in [-1, 1] as the 8-bit pixels in which they would be saved, and in which they are judged."""
    return np.clip(np.rint((np.asarray(media, np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)


def pixels(size: int = 8) -> Features:
    """Grey pixels of every frame, averaged over `size` x `size` boxes, in [0, 1]: crude, but motion counts.

    Boxes differ by a pixel where `size` does not divide the frame; a frame smaller than that keeps its own pixels.
    """

    def function(clips: np.ndarray) -> np.ndarray:
        grey = clips.mean(-1, dtype=np.float32) / 255
        for axis, length in ((2, clips.shape[2]), (3, clips.shape[3])):
            edges = np.arange(min(size, length)) * length // min(size, length)
            widths = np.diff(edges, append=length).reshape(-1, *[1] * (3 - axis))
            grey = np.add.reduceat(grey, edges, axis) / widths
        return grey.reshape(len(clips), -1).astype(np.float32)

    return Features(f"pixels {size}x{size}", function)
