"""All pairs of vectors whose cosine is high, without comparing all with all.

An inverted file (Jégou, Douze & Schmid 2011, "Product quantization for nearest neighbor search", section 4): vectors
are put into the cells of a k-means, and each is compared with those in the PROBES cells nearest to it, which keeps
pairs that lie across a border. A cell is compared with all its visitors by one matrix product.
"""

from collections.abc import Iterator

import numpy as np

SMALL = 4096  # vectors up to which all are compared with all
CELLS = 2.0  # times the square root of the number of vectors
PROBES = 4
TRAINED = 32  # vectors for each cell that the cells are found from
ROUNDS = 4  # of k-means
BLOCK = 4096  # rows of a matrix product


def join(vectors: np.ndarray, cosine: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of vectors (n, d) float32 whose cosine is at least `cosine`: (p, 2) int64, i < j, and the cosines (p,).

    Sorted, each pair once. Exact up to SMALL vectors; beyond, pairs that lie in distant cells are missed, the fewer
    the higher `cosine` is. A vector of length 0 is in no pair. Raises ValueError for another shape or values that are
    not finite.
    """
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError("vectors are an array (n, d) of finite numbers")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = np.flatnonzero(length[:, 0] > 0)
    unit = (vectors[rows] / length[rows]).astype(np.float32)
    packed, values = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    for visitors, members in _meetings(unit):
        for start in range(0, len(visitors), BLOCK):
            some = visitors[start : start + BLOCK]
            cosines = unit[some] @ unit[members].T
            i, j = np.nonzero(cosines >= cosine)
            low, high = np.minimum(some[i], members[j]), np.maximum(some[i], members[j])
            packed.append((low * len(unit) + high)[low < high])
            values.append(cosines[i, j][low < high])
    found, first = np.unique(np.concatenate(packed), return_index=True)
    return rows[np.stack([found // max(len(unit), 1), found % max(len(unit), 1)], -1)], np.concatenate(values)[first]


def _meetings(unit: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Who is compared with whom: for each cell its visitors, and the members, whose nearest cell it is."""
    n = len(unit)
    if n <= SMALL:
        yield np.arange(n), np.arange(n)
        return
    centres = _centres(unit, int(CELLS * np.sqrt(n)))
    near = np.concatenate([_nearest(unit[start : start + BLOCK], centres) for start in range(0, n, BLOCK)])
    visits = np.argsort(near, axis=None, kind="stable")
    homes = np.argsort(near[:, 0], kind="stable")
    cells = np.arange(len(centres) + 1)
    first_visit = np.searchsorted(near.ravel()[visits], cells)
    first_home = np.searchsorted(near[homes, 0], cells)
    for cell in range(len(centres)):
        members = homes[first_home[cell] : first_home[cell + 1]]
        yield visits[first_visit[cell] : first_visit[cell + 1]] // near.shape[1], members


def _nearest(unit: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The PROBES cells (n, PROBES) nearest to each vector, the nearest one first."""
    far = -(unit @ centres.T)
    near = np.argpartition(far, PROBES, axis=1)[:, :PROBES]
    return np.take_along_axis(near, np.take_along_axis(far, near, 1).argsort(1), 1)


def _centres(unit: np.ndarray, cells: int) -> np.ndarray:
    """Unit vectors (cells, d) in the middle of cells, by k-means of evenly picked vectors; empty ones stay."""
    picked = unit[np.linspace(0, len(unit) - 1, min(TRAINED * cells, len(unit))).astype(int)]
    centres = picked[np.linspace(0, len(picked) - 1, cells).astype(int)]
    for _ in range(ROUNDS):
        home = np.concatenate([(picked[k : k + BLOCK] @ centres.T).argmax(1) for k in range(0, len(picked), BLOCK)])
        order = np.argsort(home, kind="stable")
        taken, first = np.unique(home[order], return_index=True)
        sums = np.add.reduceat(picked[order], first)
        centres[taken] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    return centres
