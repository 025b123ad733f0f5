"""Distinct pictures to plant copies and defects among: made up ones, and photographs from a folder.

The made up ones are "dead leaves": opaque shapes of power-law sizes falling on one another, which gives the edges,
occlusions and spectra of photographs (Lee, Mumford & Huang 2001, "Occlusion models for natural images").
"""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

FOLDERS = ("bsds", "kodak", "clothing_originals", "mdn", "misc")
SHORT_SIDE = 512


def synthetic(rng: np.random.Generator, smooth: bool = False, size: int = 256) -> np.ndarray:
    """A picture (h, w, 3) uint8 whose shorter side is `size`: landscape, square or portrait.

    smooth: a sky, a gradient with soft clouds, instead of leaves: low in texture, so that such pictures resemble one
    another and are the hard cases of finding copies and of telling blur.
    """
    long = int(size * rng.choice([1.0, 4 / 3, 3 / 2]))
    h, w = (size, long) if rng.random() < 0.7 else (long, size)
    picture = _sky(rng, h, w) if smooth else _leaves(rng, h, w)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 0.8))  # the lens
    picture += rng.normal(0, rng.uniform(0.002, 0.008), picture.shape).astype(np.float32)  # the sensor
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def real(root: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The photographs of `root`/FOLDERS as (folder/name, (h, w, 3) uint8), the shorter side at most SHORT_SIDE."""
    for path in sorted(path for folder in FOLDERS for path in (root / folder).glob("*.*")):
        stored = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if stored is None:
            continue
        share = min(1.0, SHORT_SIDE / min(stored.shape[:2]))
        if share < 1:
            stored = cv2.resize(stored, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
        yield f"{path.parent.name}/{path.name}", np.ascontiguousarray(stored[..., ::-1])


def fractal(rng: np.random.Generator, h: int, w: int, slope: float = 1.0) -> np.ndarray:
    """Gaussian noise (h, w) float32 whose amplitude falls as 1 / frequency**slope; mean 0, variance 1."""
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    frequency[0, 0] = np.inf
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((h, w))) / frequency**slope, s=(h, w))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _leaves(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """Leaves (h, w, 3) float32 in [0, 1]: each has a colour, a texture of its own strength, and a shading."""
    n = int(rng.integers(100, 600))
    leaf = np.zeros((h, w), np.int32)  # which leaf is on top; leaf 0 is the ground
    smallest, largest = rng.uniform(0.015, 0.04) * min(h, w), rng.uniform(0.25, 0.6) * min(h, w)
    # Density of radii ~ r^-3 between the two (scale invariance), by inverting its distribution function.
    radii = (smallest**-2 - rng.random(n) * (smallest**-2 - largest**-2)) ** -0.5
    for i in range(1, n):
        _drop(rng, leaf, i, float(radii[i]))
    colours, light = _colours(rng, n), _colours(rng, 1)[0]
    texture = fractal(rng, 256, 256, rng.uniform(0.7, 1.2))
    y, x = np.mgrid[:h, :w]
    shift = rng.integers(0, 256, (2, n))
    grain = texture[(y + shift[0][leaf]) % 256, (x + shift[1][leaf]) % 256] * rng.uniform(0, 0.09, n)[leaf]
    slope = rng.normal(0, 0.25, (2, n))
    shade = slope[0][leaf] * (y / h - 0.5) + slope[1][leaf] * (x / w - 0.5)
    picture = colours[leaf] * np.exp(grain * 2 + shade)[..., None]
    return (0.88 * picture + 0.12 * light).astype(np.float32)


def _drop(rng: np.random.Generator, leaf: np.ndarray, i: int, radius: float) -> None:
    """Paint leaf i onto the map: an ellipse or a polygon."""
    h, w = leaf.shape
    centre = rng.uniform(-0.1, 1.1, 2) * (w, h)
    if rng.random() < 0.5:
        axes = radius * rng.uniform(0.5, 1.5, 2)
        box = (tuple(centre), tuple(2 * axes), rng.uniform(0, 180))
        cv2.ellipse(leaf, box, i, -1)  # type: ignore[call-overload]
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        corners = centre + radius * rng.uniform(0.8, 1.6) * np.stack([np.cos(angles), np.sin(angles)], -1)
        cv2.fillPoly(leaf, [corners.astype(np.int32)], i)  # type: ignore[call-overload]


def _sky(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """A sky (h, w, 3) float32 in [0, 1]: from one colour at the top to another at the bottom, with soft clouds."""
    blue = np.array([0.25, 0.45, 0.75]) * rng.uniform(0.6, 1.2) + rng.normal(0, 0.05, 3)
    haze = np.array([0.8, 0.75, 0.7]) * rng.uniform(0.7, 1.1) + rng.normal(0, 0.06, 3)
    y, x = np.mgrid[:h, :w]
    height = np.clip(y / h + rng.normal(0, 0.3) * (x / w - 0.5), 0, 1)[..., None] ** rng.uniform(0.6, 1.8)
    cloud = 1 / (1 + np.exp(-3 * (fractal(rng, h, w, rng.uniform(1.6, 2.2)) - rng.uniform(0, 1.2))))
    cover = rng.uniform(0.05, 0.5) * cloud[..., None]
    return ((blue * (1 - height) + haze * height) * (1 - cover) + rng.uniform(0.8, 0.97) * cover).astype(np.float32)


def _colours(rng: np.random.Generator, n: int) -> np.ndarray:
    """Colours (n, 3) in [0, 1] as in nature: a few muted hues a scene, brightness log-normal."""
    scene = rng.normal(0, 0.22, (int(rng.integers(2, 6)), 3))
    scene[:, 1] *= 0.6  # green against magenta varies least
    tint = scene[rng.integers(0, len(scene), n)] + rng.normal(0, 0.06, (n, 3))
    brightness = np.exp(rng.normal(np.log(0.38), 0.55, n))
    return np.clip(brightness[:, None] * np.exp(tint), 0.01, 0.95)
