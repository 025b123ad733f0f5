"""The demo's media: handwritten digits as stills and as short videos of one or two of them moving.

The digits are the 1797 grey 8x8 scans that scikit-learn carries (E. Alpaydin, C. Kaynak, "Optical recognition of
handwritten digits", UCI 1998; CC BY 4.0), so the demo is real handwriting and needs no network. They are written as
raw media, PNG and lossless video with a `metadata.jsonl` beside them, because the demo must go the way that a
person's own folder goes.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits

from diorama.core.errors import UserError
from diorama.core.files import write_text
from diorama.core.progress import progress
from diorama.media import write_mp4, write_png

SIZE = 32  # pixels a side
FRAMES = 9
RATE = 8.0  # frames per second
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIRECTIONS = ("left", "right", "up", "down")  # action a is DIRECTIONS[a - 1]; action 0 leads to the first frame
_STEPS = np.array([(0, -1), (0, 1), (-1, 0), (1, 0)], np.float64)  # (y, x) of each direction
_DRAWS = 128  # tries at placing two digits apart


def caption(digits: list[int], directions: list[str] | None = None) -> str:
    """The words for one or two digits, such as "a seven moving left" or, without directions, "a three and an eight"."""
    named = [("an " if d == 8 else "a ") + WORDS[d] for d in digits]
    if directions:
        named = [f"{name} moving {where}" for name, where in zip(named, directions, strict=True)]
    return " and ".join(named)


@dataclass(frozen=True)
class _Piece:
    """One clip before it is drawn: which digit images, how large, where in each frame."""

    images: tuple[int, ...]  # indices into the scans
    digits: tuple[int, ...]
    directions: tuple[int, ...]  # indices into DIRECTIONS; empty for a still
    sizes: np.ndarray  # (digits,) pixels a side
    corners: np.ndarray  # (digits, frames, 2) upper left corner (y, x) in pixels, sub-pixel
    split: str

    def row(self, name: str) -> dict:
        """The clip's line of metadata.jsonl."""
        where = [DIRECTIONS[d] for d in self.directions]
        row = {"file_name": name, "caption": caption(list(self.digits), where), "label": self.digits[0],
               "class_name": WORDS[self.digits[0]], "digits": self.digits, "split": self.split,
               "group": str(self.images[0])}  # fmt: skip
        if where:
            row |= {"directions": where, "actions": [0] + [self.directions[0] + 1] * (FRAMES - 1)}
        return row


def _paths(rng: np.random.Generator, sizes: np.ndarray, directions: np.ndarray, frames: int) -> np.ndarray:
    """Straight paths on whole pixels. `sizes` (n, d), `directions` (n, d) -> corners (n, d, frames, 2), all inside."""
    way = _STEPS[directions] * (frames - 1)  # a pixel a frame
    low = np.maximum(0, -way)
    high = SIZE - sizes[..., None] - np.maximum(0, way)
    start = rng.integers(low.astype(int), high.astype(int) + 1)
    return start[..., None, :] + way[..., None, :] * np.linspace(0, 1, frames)[:, None]


def _overlap(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Deepest overlap in pixels, at any frame, of the two digits' boxes. (n, 2, t, 2), (n, 2) -> (n,)."""
    reach = 0.5 * sizes.sum(-1)[:, None, None] * np.array([0.95, 0.8])  # (y, x): scans are blank at the sides
    centre = corners + 0.5 * sizes[:, :, None, None]
    inside = np.min(reach - np.abs(centre[:, 0] - centre[:, 1]), axis=-1)
    return np.max(inside, axis=-1)


def _plan(rng: np.random.Generator, scans: np.ndarray, labels: np.ndarray, split: str, frames: int) -> _Piece:
    """Draw a clip. `scans` are the digit images of this split."""
    count = 2 if rng.uniform() < 0.125 else 1
    first = rng.choice(scans)
    images = [int(first)]
    if count == 2:  # another digit, so that the caption tells them apart
        images.append(int(rng.choice(scans[labels[scans] != labels[first]])))
    draws = _DRAWS if count == 2 else 1
    sizes = np.full((draws, count), 16 if count == 1 else 14)  # two need room to pass each other
    directions = np.broadcast_to(rng.integers(0, len(DIRECTIONS), count), (draws, count))
    corners = _paths(rng, sizes, directions, frames)
    # The first draw that keeps two digits apart, else the least bad.
    best = int(np.argmin(np.maximum(_overlap(corners, sizes), 0))) if count == 2 else 0
    moving = tuple(int(d) for d in directions[best]) if frames > 1 else ()
    return _Piece(tuple(images), tuple(int(labels[i]) for i in images), moving, sizes[best], corners[best], split)


def _draw(piece: _Piece, scans: np.ndarray) -> np.ndarray:
    """White digits on black, cubic, placed at sub-pixel positions. -> (t, h, w, 3) uint8."""
    frames = np.zeros((piece.corners.shape[1], SIZE, SIZE), np.float32)
    for image, size, corners in zip(piece.images, piece.sizes, piece.corners, strict=True):
        scale = size / 8
        for frame, (y, x) in zip(frames, corners, strict=True):
            # Pixel centres: output u samples the scan at (u + 0.5 - x) / scale - 0.5.
            to_scan = np.array([[1, 0, 0.5 - x], [0, 1, 0.5 - y]]) / scale - [[0, 0, 0.5], [0, 0, 0.5]]
            drawn = cv2.warpAffine(scans[image], to_scan, (SIZE, SIZE), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
            np.maximum(frame, drawn, out=frame)
    grey = np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def write_digits(folder: Path | str, clips: int = 3200, stills: int = 800, seed: int = 0) -> Path:
    """Write the demo's media into `folder`: `clips` videos (9 frames of 32x32, 8 a second) and `stills` pictures.

    Seven of eight clips show one digit, the others two that keep apart. Every
    ninth clip is for testing and shows digit images (a fifth of them all) that no training clip shows. In
    `metadata.jsonl`: caption, label (the first digit), digits, directions, actions (a frame; 0 for the first frame,
    then 1..4 = left, right, up, down, of the first digit), split and group (the first digit image). That file is
    written last; when it is there, there is nothing to do. Raises `UserError` when `folder` holds other digits.
    """
    folder = Path(folder)
    digits = load_digits()
    scans = (digits.images / 16.0).astype(np.float32)
    order = np.random.default_rng([seed, 0]).permutation(len(scans))
    images = {"test": order[: len(order) // 5], "train": order[len(order) // 5 :]}

    pieces: dict[str, _Piece] = {}
    kinds = [(clips, FRAMES, "videos/{:05d}.mp4"), (stills, 1, "stills/{:05d}.png")]
    for kind, (count, frames, name) in enumerate(kinds):
        for i in range(count):
            split = "test" if i % 9 == 4 else "train"
            rng = np.random.default_rng([seed, 1 + kind, i])
            pieces[name.format(i)] = _plan(rng, images[split], digits.target, split, frames)
    metadata = "".join(json.dumps(piece.row(name)) + "\n" for name, piece in pieces.items())

    sidecar = folder / "metadata.jsonl"
    if sidecar.exists():
        if sidecar.read_text() != metadata:
            raise UserError(f"{folder} holds other media than these digits: name an empty folder")
        return folder
    for part in ("videos", "stills"):
        (folder / part).mkdir(parents=True, exist_ok=True)

    def write(name: str) -> None:
        frames = _draw(pieces[name], scans)
        if name.endswith(".png"):
            write_png(folder / name, frames[0])
        else:
            write_mp4(folder / name, frames, RATE, lossless=True)

    with progress(len(pieces), "writing digits", "files") as bar, ThreadPoolExecutor(2) as threads:
        for _ in threads.map(write, pieces):
            bar.advance()
    write_text(sidecar, metadata)
    return folder
