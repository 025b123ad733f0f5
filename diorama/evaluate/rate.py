"""Rate and distortion: a codec whose latents are quantised and counted in bits, beside the codecs of the world.

A point is what a clip's pixel costs and how good it is then; a curve joins the points of one coder at several steps or
qualities, and is read at equal bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from diorama.evaluate.reconstruction import psnr, ssim
from diorama.media.recode import Stills, Videos, recode_stills, recode_videos
from diorama.media.resize import scale

STEPS = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)  # of latents of unit deviation
QUALITIES: dict[Stills, tuple[int, ...]] = {
    "JPEG": (1, 3, 6, 12, 25, 50, 75, 90), "WEBP": (1, 5, 15, 35, 60, 80, 92), "AVIF": (1, 10, 25, 40, 60, 80),
}  # fmt: skip
FACTORS: dict[Videos, tuple[int, ...]] = {coder: (51, 45, 39, 33, 27, 21, 15) for coder in ("libx264", "libx265")}
OURS = "ours"
NAMES = {"JPEG": "JPEG", "WEBP": "WebP", "AVIF": "AVIF", "libx264": "H.264", "libx265": "H.265"}


@dataclass(frozen=True)
class Point:
    """bits: of a pixel (of a frame). psnr: in decibels. ssim: 1 = equal. Means over clips."""

    bits: float
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Curve:
    """Points of one coder, from few bits to many."""

    name: str
    points: tuple[Point, ...]

    def at(self, bits: float, what: str = "psnr") -> float | None:
        """What it reaches at `bits` a pixel, between its points by the logarithm of bits; None beyond them."""
        x, y = [p.bits for p in self.points], [getattr(p, what) for p in self.points]
        inside = x[0] <= bits <= x[-1]
        return float(np.interp(np.log(bits), np.log(x), y)) if inside else None


Clips = UInt8[np.ndarray, "n t h w 3"]


def latent_bits(levels: np.ndarray) -> float:
    """Bits for all of the integers `levels` (n, ..., c): an ideal coder that knows each channel's distribution.

    The distribution comes from the other half of the clips, so that nothing is coded with a table made for it; every
    level of it is given half a count more, so that one that was not seen there can be coded too (Krichevsky and
    Trofimov 1981). What neighbours tell of each other is not used: a coder with a learned prior takes fewer bits.
    """
    flat = levels.reshape(len(levels), -1, levels.shape[-1])
    total = 0.0
    for channel in np.moveaxis(flat, -1, 0):
        low, size = channel.min(), int(np.ptp(channel)) + 1
        halves = channel[::2], channel[1::2]
        for here, other in (halves, halves[::-1]):
            counts = np.bincount((other - low).ravel(), minlength=size) + 0.5
            total -= np.log2(counts / counts.sum())[here - low].sum()
    return total


def codec_curve(
    clips: Clips, latents: Float[np.ndarray, "n t h w c"], decode: Callable[[np.ndarray], Clips],
    steps: Sequence[float] = STEPS,
) -> Curve:  # fmt: skip
    """Ours: latents (normalised) rounded to multiples of a step. `decode` gives uint8 clips of the sizes of `clips`."""
    points = []
    for step in steps:
        levels = np.rint(latents / step).astype(np.int64)
        points.append(_point(clips, decode((levels * step).astype(np.float32)), latent_bits(levels)))
    return _curve(OURS, points)


def quantised_curve(clips: Clips, again: Clips, levels: np.ndarray) -> Curve:
    """Ours where latents are integers already, `levels` (n, ..., c), that decode to `again`: the one point there is."""
    return _curve(OURS, [_point(clips, again, latent_bits(levels))])


def other_curves(clips: Clips) -> list[Curve]:
    """JPEG, WebP and AVIF for stills; H.264 and H.265 for videos."""
    if clips.shape[1] == 1:
        return [_curve(NAMES[form], [_still(clips, form, quality) for quality in qualities])
                for form, qualities in QUALITIES.items()]  # fmt: skip
    return [_curve(NAMES[coder], [_point(clips, *recode_videos(clips, coder, factor)) for factor in factors])
            for coder, factors in FACTORS.items()]  # fmt: skip


def resized(clips: Clips, numbers: int) -> Clips:
    """What is left of clips that are kept as `numbers` values each and no more: shrunk, and enlarged again (bicubic).

    Every frame is kept, in three colours; a side keeps at least one pixel.
    """
    _, t, h, w, c = clips.shape
    share = min(np.sqrt(numbers / (t * h * w * c)), 1)
    small = max(round(h * share), 1), max(round(w * share), 1)
    return np.stack([scale(scale(clip, *small), h, w) for clip in clips])


def _still(clips: Clips, form: Stills, quality: int) -> Point:
    again, bits = recode_stills(clips[:, 0], form, quality)
    return _point(clips, again[:, None], bits)


def _point(clips: Clips, again: Clips, bits: float) -> Point:
    pixels = int(np.prod(clips.shape[:-1]))
    return Point(bits / pixels, float(psnr(clips, again).mean()), float(ssim(clips, again).mean()))


def _curve(name: str, points: Sequence[Point]) -> Curve:
    return Curve(name, tuple(sorted(points, key=lambda point: point.bits)))
