"""Copies of pictures, as they come about: encoded again, scaled, cropped, mirrored, retouched, marked, framed, turned.

`plant` makes one copy an original, the kinds taking turns, so that the truth is a list of pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Picture = np.ndarray  # (h, w, 3) uint8
Change = Callable[[np.random.Generator, Picture], Picture]


@dataclass(frozen=True)
class File:
    """An encoded picture: `kind` is "original" or one of KINDS, `original` the number of the original shown."""

    data: bytes
    kind: str
    original: int


def plant(originals: Sequence[Picture], rng: np.random.Generator, turn: int = 0) -> list[File]:
    """The originals, then one copy of each: of original i the kind KINDS[(i + turn) % len(KINDS)].

    Truth pairs are (i, len(originals) + i), and no others.
    """
    files = [File(encode(picture, int(rng.integers(85, 96))), "original", i) for i, picture in enumerate(originals)]
    for i in range(len(originals)):
        kind = KINDS[(i + turn) % len(KINDS)]
        if kind == "exact":
            data = files[i].data
        else:
            quality = rng.integers(22, 46) if kind == "encoded" else rng.integers(75, 96)
            data = encode(CHANGES[kind](rng, decode(files[i].data)), int(quality))
        files.append(File(data, kind, i))
    return files


def encode(picture: Picture, quality: int) -> bytes:
    """A picture as JPEG."""
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def decode(data: bytes) -> Picture:
    """A picture from its file."""
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])


def same(rng: np.random.Generator, picture: Picture) -> Picture:
    """The picture as it is."""
    return picture


def scaled(rng: np.random.Generator, picture: Picture) -> Picture:
    """Both sides .4 to .7 times as long."""
    share = rng.uniform(0.4, 0.7)
    return cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)


def cropped(rng: np.random.Generator, picture: Picture, least: float, most: float) -> Picture:
    """Width and height each lose a share of their own between `least` and `most`, divided at random over two sides."""
    h, w, _ = picture.shape
    tall, wide = (1 - rng.uniform(least, most, 2)) * (h, w)
    top, left = rng.random(2) * (h - tall, w - wide)
    return picture[round(top) : round(top + tall), round(left) : round(left + wide)]


def cropped_little(rng: np.random.Generator, picture: Picture) -> Picture:
    """Width and height each lose 2 to 6 %."""
    return cropped(rng, picture, 0.02, 0.06)


def cropped_much(rng: np.random.Generator, picture: Picture) -> Picture:
    """Width and height each lose 10 to 18 %: .67 to .81 of the area is left."""
    return cropped(rng, picture, 0.10, 0.18)


def mirrored(rng: np.random.Generator, picture: Picture) -> Picture:
    """Left and right swapped."""
    return np.ascontiguousarray(picture[:, ::-1])


def toned(rng: np.random.Generator, picture: Picture) -> Picture:
    """Gamma, contrast, brightness and saturation changed as by an editor's sliders."""
    x = (picture.astype(np.float32) / 255) ** rng.uniform(0.65, 1.5)
    x = (x - 0.5) * rng.uniform(0.7, 1.3) + 0.5 + rng.uniform(-0.12, 0.12)
    grey = x.mean(-1, keepdims=True)
    return _bytes(grey + (x - grey) * rng.uniform(0.3, 1.6))


def marked(rng: np.random.Generator, picture: Picture) -> Picture:
    """A logo, a box with letters, 8 to 15 % of the shorter side high and twice as wide, at a corner."""
    h, w, _ = picture.shape
    size = int(rng.uniform(0.08, 0.15) * min(h, w))
    x = int(rng.choice([0.04 * w, 0.96 * w - 2 * size]))
    y = int(rng.choice([0.04 * h, 0.96 * h - size]))
    picture, colour = picture.copy(), rng.integers(0, 256, 3).tolist()
    cv2.rectangle(picture, (x, y), (x + 2 * size, y + size), colour, -1)
    ink = [255 - c for c in colour]
    cv2.putText(picture, "LOGO", (x + 2, y + int(0.75 * size)), cv2.FONT_HERSHEY_SIMPLEX, size / 48, ink, 2)
    return picture


def blurred(rng: np.random.Generator, picture: Picture) -> Picture:
    """A soft focus of .4 to .9 % of the shorter side."""
    return cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.004, 0.009) * min(picture.shape[:2]))


def framed(rng: np.random.Generator, picture: Picture) -> Picture:
    """Two bars, mostly black, of 5 to 15 % each: at top and bottom or left and right; half of them over the picture."""
    sideways, shade = rng.random() < 0.5, int(rng.choice([0, 0, 0, 16, 255]))
    bar = int(rng.uniform(0.05, 0.15) * picture.shape[sideways])
    if rng.random() < 0.5:
        tall, wide = (0, bar) if sideways else (bar, 0)
        return cv2.copyMakeBorder(picture, tall, tall, wide, wide, cv2.BORDER_CONSTANT, value=(shade,) * 3)
    picture = picture.copy()
    lines = picture.swapaxes(0, 1) if sideways else picture
    lines[:bar] = lines[-bar:] = shade
    return picture


def turned(rng: np.random.Generator, picture: Picture) -> Picture:
    """Turned by 2 to 4 degrees either way; the corners black, or cut off by enlarging."""
    h, w, _ = picture.shape
    angle = rng.uniform(2, 4) * rng.choice([-1, 1])
    tilt = np.tan(np.radians(abs(angle)))
    zoom = 1 + tilt * max(h, w) / min(h, w) if rng.random() < 0.5 else 1.0
    matrix = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), angle, zoom)
    return cv2.warpAffine(picture, matrix, (w, h), flags=cv2.INTER_LINEAR)


CHANGES: dict[str, Change] = {
    "exact": same,
    "encoded": same,
    "scaled": scaled,
    "cropped 2-6 %": cropped_little,
    "cropped 10-18 %": cropped_much,
    "mirrored": mirrored,
    "toned": toned,
    "marked": marked,
    "blurred": blurred,
    "framed": framed,
    "turned": turned,
}
KINDS = tuple(CHANGES)


def _bytes(picture: np.ndarray) -> Picture:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
