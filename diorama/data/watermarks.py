"""Watermarks: what many pictures of a collection carry at the same place, and how strongly each of them carries it.

    Curation(
        stages=(Technical(), Preview()),
        derived=(Watermarks(),),
        rules=(Drop("watermarked", (Where("watermark.score", above=5.0),)),),
    )

One picture does not tell a mark from its own edges. Many do: their own edges differ, those of a mark stay (Dekel,
Rubinstein, Liu & Freeman 2017, "On the effectiveness of visible watermarks", section 3.1). That paper knows which
pictures carry the mark; here it is not known, and there may be several marks or none, so they are first sought by the
principal components of tiles. What is found is a logo, a broadcaster's sign, words over the whole of it, a date that
is always the same. A mark that one picture alone carries is not found.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
from safetensors.numpy import load_file, save_file
from scipy import fft
from scipy.linalg import eigh

from diorama.core.errors import UserError
from diorama.core.files import write_aside
from diorama.data.stages.stage import Batch

LEAST_SIDE = 64  # pixels of a preview in which a mark can be seen
PER_SIZE = 300  # examples of one frame size among which marks are sought: the work grows with their square
TILES = 8  # along each side, the finest of those that are searched
TRIES = 6  # components looked into before a search ends
MARKS = 8  # of one frame size at most
SOFT = 6.0  # levels a pixel: steeper edges count little more, so that no picture's own edges outweigh the rest
STROKES = (9, 9)  # pixels in which the edges of a stroke cancel; shading does not, and is taken off
CARRIED = 5.0  # score from which a picture is taken to carry a mark while marks are sought
ALIKE = 0.9  # correlation of the thumbnails of copies
SCENE = 0.6  # of `_variety`: pictures of different things have 0.75 to 1, those of a still camera 0 to 0.5


@dataclass(frozen=True)
class Watermarks:
    """How strongly a clip carries one of the collection's marks, and which.

    score: the agreement of its edges with the mark's, in standard deviations of what the same edges give 4 to 24 pixels
    off: about 1 without the mark, at most 4 or so, and 5 to 30 with it. 0 where its frame size has no mark; null where
    fewer than `least` examples have its frame size, or its shorter side is below 64 pixels. mark: the number of that
    mark; null without one.

    Marks are found once, from `examples` clips at most, and kept; so a mark that comes in later is not seen. A mark
    must lie at the same place of previews of the same size, in `least` of the examples. What copies share is no mark,
    nor what clips of one scene share: a still camera's ground; so of pictures that are white for the most part, all at
    the same places, no mark is found either.
    """

    least: int = 8
    examples: int = 2000
    name: ClassVar[str] = "watermark"
    version: ClassVar[int] = 1
    columns: ClassVar[dict[str, Any]] = {"score": float, "mark": int}
    reads: ClassVar[tuple[str, ...]] = ("preview.images",)
    weights: ClassVar[tuple[Path, ...]] = ()

    def __post_init__(self) -> None:
        if self.least < 4 or self.examples < self.least:
            raise UserError("a mark is confirmed by two halves of at least 2: set least >= 4 and examples >= least")

    def prepare(self, models: Path, sample: Callable[[int], pa.Table]) -> Batch:
        """As `Derived.prepare`."""
        path = models / "marks.safetensors"
        if not path.exists():
            found = dict(self._find(sample(self.examples)["preview.images"].to_pylist()))
            with write_aside(path) as aside:
                save_file(found, aside)
        known: dict[tuple[int, int], list[tuple[int, np.ndarray]]] = {}
        number = 0
        for text, parts in sorted(load_file(path).items()):
            h, w = map(int, text.split("x"))
            known[h, w] = [(number + k, _spectrum(x + 1j * y)) for k, (x, y) in enumerate(parts.astype(np.float32))]
            number += len(parts)

        def scores(table: pa.Table) -> Mapping[str, Sequence[Any]]:
            out: dict[str, list[Any]] = {"score": [], "mark": [], "error": []}
            for images in table["preview.images"].to_pylist():
                try:
                    row = _score(images, known)
                except ValueError as error:
                    row = None, None, str(error)
                for column, value in zip(out.values(), row, strict=True):
                    column.append(value)
            return out

        return scores

    def _find(self, clips: list[list[bytes] | None]) -> Iterator[tuple[str, np.ndarray]]:
        """(frame size, its marks (k, 2, h, w) float16: edges across and down) of each size that was looked at."""
        sizes: dict[tuple[int, ...], list[list[bytes]]] = {}
        for images in clips:
            try:
                shapes = [_luma(image).shape for image in images or ()]
            except ValueError:
                continue
            if images and len(sizes.setdefault(shapes[0], [])) < PER_SIZE:
                sizes[shapes[0]].append(images)
        for (h, w), some in sizes.items():
            if min(h, w) >= LEAST_SIDE and len(some) >= self.least:
                found = find_marks([[_luma(image) for image in images] for images in some], self.least)
                parts = [np.stack([mark.real, mark.imag]) for mark in found]
                yield f"{h}x{w}", np.array(parts, np.float16).reshape(-1, 2, h, w)


def _score(
    images: list[bytes] | None, known: Mapping[tuple[int, int], list[tuple[int, np.ndarray]]]
) -> tuple[float | None, int | None, str | None]:
    frames = [_luma(image) for image in images or ()]
    marks = known.get(frames[0].shape) if frames else None
    if marks is None:
        return None, None, None
    if not marks:
        return 0.0, None, None
    seen = fft.fft2(_edges(frames))
    return *max((abs(_response(seen, spectrum)), number) for number, spectrum in marks), None


def _luma(image: bytes) -> np.ndarray:
    """An encoded preview as (h, w) uint8. Raises ValueError where it is none."""
    luma = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE) if image else None
    if luma is None:
        raise ValueError("the preview cannot be decoded")
    return luma


def _edges(frames: Sequence[np.ndarray]) -> np.ndarray:
    """The mean over a clip's frames of their edges, (h, w) complex64: gradients, across + i down, at most 1 long.

    Over moving frames the mean already favours what stays.
    """
    total = np.zeros(frames[0].shape, np.complex64)
    for frame in frames:
        x, y = cv2.spatialGradient(frame)
        x, y = x.astype(np.float32) / 8, y.astype(np.float32) / 8
        soft = np.hypot(x, y) + SOFT
        x, y = x / soft, y / soft
        total += (x - cv2.blur(x, STROKES)) + 1j * (y - cv2.blur(y, STROKES))
    return total / len(frames)


def _spectrum(mark: np.ndarray) -> np.ndarray:
    return np.conj(fft.fft2(mark.astype(np.complex64)))


def _response(seen: np.ndarray, spectrum: np.ndarray) -> float:
    """Correlation of edges with a mark at its place, within a pixel, over its standard deviation at others around it.

    Both as (h, w) spectra. The ratio is that of a correlation filter's peak to its sidelobes (Bolme et al. 2010,
    "Visual object tracking using adaptive correlation filters", section 3.5). Negative where the ink is the opposite.
    """
    here, around = _places(*spectrum.shape)
    correlation = fft.ifft2(seen * spectrum).real
    at = correlation[here]
    return float(at[np.abs(at).argmax()] / (correlation[around].std() + 1e-6))


@cache
def _places(h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks (h, w) of shifts of at most a pixel or so, and of 4 to 24 pixels."""
    distance = np.hypot(fft.fftfreq(h, 1 / h)[:, None], fft.fftfreq(w, 1 / w))
    return distance < 1.5, (distance >= 4) & (distance <= 24)


def find_marks(clips: Sequence[Sequence[np.ndarray]], least: int) -> list[np.ndarray]:
    """The marks, (h, w) complex64 edges each, that at least `least` of some clips (frames (h, w) uint8) carry.

    The largest first, as a rule: what carries one is left out of the search for the next.
    """
    thumbnails = np.stack([_thumbnail(frames) for frames in clips])
    chosen = _unlike(thumbnails)
    thumbnails = thumbnails[chosen]
    edges = np.stack([_edges(clips[k]) for k in chosen])
    spectra, grams = fft.fft2(edges), list(_grams(edges))
    left, marks = np.arange(len(edges)), list[np.ndarray]()
    while len(left) >= least and len(marks) < MARKS:
        for weights in _components(grams, left):
            members, signs = _carriers(edges, spectra, left, weights)
            if len(members) >= least and _confirmed(edges, spectra, members, signs):
                break
        else:
            break
        if _variety(thumbnails[members]) > SCENE:
            marks.append(_shared(edges[members], signs))
        left = np.setdiff1d(left, members)
    return marks


def _thumbnail(frames: Sequence[np.ndarray]) -> np.ndarray:
    """(256,) float32 levels: 16 by 16 cells, less their median."""
    small = [cv2.resize(frame, (16, 16), interpolation=cv2.INTER_AREA) for frame in frames]
    values = np.mean(small, 0, dtype=np.float32).ravel()
    return values - np.median(values)


def _unlike(thumbnails: np.ndarray) -> np.ndarray:
    """Clips (n,) of which no two are copies: what copies share is no mark."""
    centred = thumbnails - thumbnails.mean(1, keepdims=True)
    units = centred / (np.linalg.norm(centred, axis=1, keepdims=True) + 1e-3)
    chosen: list[int] = []
    for k, unit in enumerate(units):
        if not chosen or (units[chosen] @ unit).max() < ALIKE:
            chosen.append(k)
    return np.array(chosen)


def _variety(thumbnails: np.ndarray) -> float:
    """How much a cell differs from picture to picture, over how much all cells of all differ; medians of (n, cells).

    Each picture's contrast is made the same first, since the light of a scene changes. Medians, since things pass it.
    """
    even = thumbnails / (np.abs(thumbnails).mean(1, keepdims=True) + 1)
    of_cells = np.median(np.abs(even - np.median(even, 0)), 0)
    return float(np.median(of_cells) / (np.median(np.abs(even - np.median(even))) + 1e-3))


def _grams(edges: np.ndarray) -> Iterator[np.ndarray]:
    """How alike the edges (n, h, w) of any two clips are, (n, n) with a diagonal of 0: in each tile, then larger ones.

    A small mark shows only in a small tile, where it outweighs the pictures' own edges.
    """
    n, h, w = edges.shape
    down, across = (np.linspace(0, side, TILES + 1).astype(int) for side in (h, w))
    grams = np.empty((TILES, TILES, n, n), np.float32)
    for i in range(TILES):
        for j in range(TILES):
            tile = edges[:, down[i] : down[i + 1], across[j] : across[j + 1]].reshape(n, -1)
            parts = np.concatenate([tile.real, tile.imag], 1)
            grams[i, j] = parts @ parts.T
    for share in (1, 2, TILES):
        k = TILES // share
        for gram in grams.reshape(k, share, k, share, n, n).sum((1, 3)).reshape(-1, n, n):
            length = np.sqrt(gram.diagonal()) + 1e-3
            cosine = gram / np.outer(length, length)
            np.fill_diagonal(cosine, 0)
            yield cosine


def _components(grams: Sequence[np.ndarray], left: np.ndarray) -> list[np.ndarray]:
    """Weights (n,) of the clips `left` in the strongest principal components of tiles, the clearest first.

    Clear is an eigenvalue far beyond what n pictures without anything in common give, 2 sqrt(n) standard deviations.
    """
    last, found = len(left) - 1, []
    for gram in grams:
        some = gram[np.ix_(left, left)]
        usual = np.median(np.abs(some)) + 1e-3
        [value], vectors = eigh(some, subset_by_index=[last, last])
        found.append((float(value / usual), vectors[:, 0]))
    found.sort(key=lambda each: -each[0])
    return [weights for _, weights in found[:TRIES]]


def _carriers(
    edges: np.ndarray, spectra: np.ndarray, left: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the clips `left` those that carry what a component shows, and by which sign; from a few on, all of them."""
    heavy = np.abs(weights) > len(left) ** -0.5
    mark = np.tensordot(weights[heavy], edges[left[heavy]], 1)
    mark[np.abs(mark) < np.quantile(np.abs(mark), 0.95)] = 0
    members, signs = left[:0], weights[:0]
    for _ in range(4):
        spectrum = _spectrum(mark)
        responses = np.array([_response(spectra[k], spectrum) for k in left])
        carried = np.abs(responses) > CARRIED
        members, signs = left[carried], np.sign(responses[carried])
        if len(members) < 4:
            break
        mark = _shared(edges[members], signs)
    return members, signs


def _shared(edges: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """The median of edges (n, h, w), each by its sign (n,), where it stands out from its standard error; 0 elsewhere.

    Standard error of a median of n: 1.25 standard deviations over sqrt(n).
    """
    across, down = (part * signs[:, None, None] for part in (edges.real, edges.imag))
    middle = np.median(across, 0) + 1j * np.median(down, 0)
    error = 1.25 * np.sqrt((across.var(0) + down.var(0)) / 2 / len(edges))
    middle[np.abs(middle) < np.maximum(3 * error, 0.08)] = 0
    return middle


def _confirmed(edges: np.ndarray, spectra: np.ndarray, members: np.ndarray, signs: np.ndarray) -> bool:
    """Whether what half of the pictures share is found in the other half, both ways: chance has no such twin."""
    agreements = []
    for one, other in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        spectrum = _spectrum(_shared(edges[members[one]], signs[one]))
        agreements += [s * _response(spectra[k], spectrum) for k, s in zip(members[other], signs[other], strict=True)]
    return float(np.median(agreements)) > CARRIED
