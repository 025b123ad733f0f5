"""Buckets for clips of any shape and length: few shapes of about equal cost, each clip in the one nearest to it.

Open-Sora's way (arXiv 2412.20404): every batch has one shape, each shape is compiled once, and the batch shrinks as
clips grow, so that a step costs about the same whichever bucket's turn it is.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from diorama.core.errors import UserError
from diorama.run.run import Bucket

ANY = 1e9  # no clip is wider
RATIOS = (9 / 16, 3 / 4, 1.0, 4 / 3, 16 / 9)


def aspect_buckets(
    pixels: int, frames: Sequence[int] = (1,), ratios: Sequence[float] = RATIOS, *, multiple: int = 16, batch: int = 32,
    stride: int = 1,
) -> tuple[Bucket, ...]:  # fmt: skip
    """A bucket for each length and each shape of about so many pixels.

    Args:
        pixels: height times width, about.
        frames: lengths; every clip that is long enough takes part in each.
        ratios: width over height of the shapes.
        multiple: of which sides are made: codec cells times the patch of the network.
        batch: clips of the shortest length in a batch; longer ones have fewer, so that batches have as many frames.
        stride: step between frames taken.

    Returns:
        Buckets whose `aspects` part all ratios among the shapes of a length, at geometric means. Of ratios that come to
        the same sides one is left, so there may be fewer than asked for.

    Raises:
        UserError: sides would be smaller than `multiple`, or a number is not above 0.
    """
    if min(pixels, multiple, batch, stride, *frames, *ratios) <= 0 or not frames or not ratios:
        raise UserError("aspect_buckets wants lengths and ratios, and all its numbers above 0")

    def side(length: float) -> int:
        return round(length / multiple) * multiple

    shapes = sorted({(side(math.sqrt(pixels / r)), side(math.sqrt(pixels * r))) for r in ratios}, key=_ratio)
    if min(min(shape) for shape in shapes) < multiple:
        raise UserError(f"{pixels} pixels are too few for sides of at least {multiple}: give more, or fewer ratios")
    between = [math.sqrt(_ratio(a) * _ratio(b)) for a, b in pairwise(shapes)]
    edges = list(pairwise([0.0, *between, ANY]))
    fewest, widths = min(frames), [(t, h, w, edge) for t in frames for (h, w), edge in zip(shapes, edges, strict=True)]
    return tuple(
        Bucket(t, h, w, max(1, round(batch * fewest / t)), stride=stride, aspects=edge if len(shapes) > 1 else None)
        for t, h, w, edge in widths
    )


def _ratio(shape: tuple[int, int]) -> float:
    return shape[1] / shape[0]
