"""Clips with a known answer: one real digit, 15 pixels high, that moves in a known direction over black."""

import numpy as np
from skimage.transform import resize
from sklearn.datasets import load_digits

from diorama.evaluate.motion import DIRECTIONS

VELOCITY = dict(zip(DIRECTIONS, [(0, -1), (0, 1), (-1, 0), (1, 0), (0, 0)], strict=True))  # (y, x) pixels a frame


def digit_clips(count: int, frames: int, split: str, seed: int = 0) -> tuple[np.ndarray, list[list[int]], list[str]]:
    """(clips (b, t, 32, 32, 3) uint8, [[digit]], directions); no digit image is in both splits "train" and "test"."""
    digits = load_digits()
    rng = np.random.default_rng([seed, frames, split == "test"])
    scans = np.random.default_rng(0).permutation(len(digits.images))
    scans = scans[:360] if split == "test" else scans[360:]
    chosen = rng.choice(scans, count)
    names = rng.choice(DIRECTIONS, count).tolist()
    clips = np.zeros((count, frames, 32, 32, 3), np.uint8)
    for clip, scan, name in zip(clips, chosen, names, strict=True):
        drawn = np.rint(resize(digits.images[scan] / 16, (15, 15), order=1) * 255).astype(np.uint8)
        middle = rng.integers(4, 14, 2)
        for k, frame in enumerate(clip):
            y, x = middle + np.array(VELOCITY[name]) * (k - frames // 2)
            frame[y : y + 15, x : x + 15] = drawn[..., None]
    return clips, [[int(digits.target[i])] for i in chosen], names
