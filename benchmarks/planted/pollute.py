"""A clean set of labelled pictures, polluted as found data are: what was done to each is kept as `kind`.

Classes get rare by a power of ten from the first to the last, in an order of chance. Of what is then left some are
blurred, framed by bars, badly exposed, crushed by compression or given another class's name; and a few pictures are
copied many times over. Pictures are small, so blur is wider here than in `defects`: it has to be seen at 32 pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.planted.copies import CHANGES, Picture, decode, encode
from benchmarks.planted.defects import Plant, dark, flat, jpeg, letterboxed, overexposed

RAREST = 0.1  # pictures of the rarest class, as a share of the commonest's
COPIED = 20  # pictures that are copied, all about equally often
COPIES = ("encoded", "scaled", "cropped 2-6 %", "cropped 10-18 %", "mirrored", "toned", "turned")


@dataclass(frozen=True)
class Sample:
    """An encoded picture and what is said of it: `label` is what its caption says, `kind` what was done to it.

    `original` is the number, in the clean set, of the picture that it shows.
    """

    data: bytes
    label: int
    kind: str
    original: int


def out_of_focus(rng: np.random.Generator, picture: Picture) -> Picture:
    """A Gaussian of 3.5 to 6 % of the shorter side."""
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.035, 0.06) * min(picture.shape[:2]))


def moved(rng: np.random.Generator, picture: Picture) -> Picture:
    """A straight motion of 15 to 25 % of the shorter side while the shutter was open."""
    length, angle = rng.uniform(0.15, 0.25) * min(picture.shape[:2]), rng.uniform(0, np.pi)
    along = np.linspace(-length / 2, length / 2, 17)
    reach = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for x, y in zip(reach + along * np.cos(angle), reach + along * np.sin(angle), strict=True):
        kernel += np.clip(
            1 - np.abs(np.mgrid[: len(kernel), : len(kernel)] - np.array([y, x])[:, None, None]), 0, 1
        ).prod(0)
    return cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)


def crushed(rng: np.random.Generator, picture: Picture) -> Picture:
    """A JPEG of quality 2 to 6."""
    return jpeg(picture, int(rng.integers(2, 7)))


DAMAGE: dict[str, tuple[Plant, ...]] = {
    "blurred": (out_of_focus, moved),
    "letterboxed": (letterboxed,),
    "exposure": (dark, flat, overexposed),
    "blocky": (crushed,),
}
SHARES = {"copy": 0.12, "blurred": 0.08, "letterboxed": 0.08, "exposure": 0.05, "blocky": 0.04, "mislabelled": 0.05}


def pollute(
    clean: Sequence[bytes], labels: Sequence[int], rng: np.random.Generator, shares: Mapping[str, float] = SHARES
) -> list[Sample]:
    """The polluted set: `shares` of it are of these kinds, the rest is "sound" and keeps its bytes.

    clean: encoded pictures, about equally many of each class in `labels`. No picture is there twice with equal bytes.
    """
    chosen = skewed(np.asarray(labels), rng)
    total = len(chosen) / (1 - shares["copy"])
    kinds = [kind for kind in (*DAMAGE, "mislabelled") for _ in range(round(shares[kind] * total))]
    classes = sorted(set(labels))
    out = []
    for i, original in enumerate(chosen.tolist()):
        data, label = clean[original], labels[original]
        kind = kinds[i] if i < len(kinds) else "sound"
        if kind == "mislabelled":
            label = int(rng.choice([c for c in classes if c != label]))
        elif kind in DAMAGE:
            plant = DAMAGE[kind][i % len(DAMAGE[kind])]
            data = encode(plant(rng, decode(data)), int(rng.integers(85, 96)))
        out.append(Sample(data, label, kind, original))
    sound = out[len(kinds) :]
    for i in range(round(shares["copy"] * total)):
        source = sound[i % COPIED]
        change = COPIES[i // COPIED % len(COPIES)]
        quality = rng.integers(30, 60) if change == "encoded" else rng.integers(75, 96)
        out.append(
            Sample(
                encode(CHANGES[change](rng, decode(source.data)), int(quality)), source.label, "copy", source.original
            )
        )
    return [out[i] for i in rng.permutation(len(out))]


def skewed(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of pictures, in an order of chance, of which each class has fewer than the one before."""
    classes = rng.permutation(np.unique(labels))
    keep = RAREST ** (np.arange(len(classes)) / max(len(classes) - 1, 1))
    most = min(int((labels == c).sum()) for c in classes)
    parts = [
        rng.permutation(np.flatnonzero(labels == c))[: round(most * k)] for c, k in zip(classes, keep, strict=True)
    ]
    return rng.permutation(np.concatenate(parts))
