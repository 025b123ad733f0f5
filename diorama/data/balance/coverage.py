"""A few vectors that stand for all: k-centre and facility location, by greedy choice.

`farthest_first` makes the largest distance from any vector to the nearest chosen one small, at most twice the least
possible (Gonzalez 1985, "Clustering to minimize the maximum intercluster distance"): it finds what is rare, outliers
first. `facility_location` makes the sum of similarities to the nearest chosen one large, at least 1 - 1/e of the most
possible (Nemhauser, Wolsey & Fisher 1978, "An analysis of approximations for maximizing submodular set functions"): it
finds what is typical, large clusters before small ones. Pure functions of arrays.
"""

import heapq
from collections.abc import Sequence

import numpy as np
import scipy.sparse
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.neighbors import NearestNeighbors

BLOCK = 4096  # rows of a matrix product
ALL_PAIRS = 2048  # vectors up to which a graph holds all pairs
NEIGHBOURS = 64


def farthest_first(vectors: np.ndarray, count: int, chosen: Sequence[int] = ()) -> np.ndarray:
    """Rows (min(count, n),) of vectors (n, d) float32, in the order in which they are chosen.

    First come the rows `chosen`, if any, else the one nearest to the mean; then always the one farthest from all
    before it. Exact, in n * d * count multiplications and BLOCK * sqrt(n) numbers beside the vectors.

    One choice looks at the sqrt(n) farthest rows only. It is right as long as one of them is farther away than all
    others were, since distances only shrink; then all rows are brought up to date by one matrix product.
    """
    n = len(vectors)
    count = min(count, n)
    square = np.einsum("nd,nd->n", vectors, vectors)
    if not len(chosen) and n:
        mean = vectors.mean(0)
        chosen = [int(np.argmin(square - 2 * (vectors @ mean)))]
    order = [int(row) for row in chosen][:count]
    near = np.full(n, np.inf, np.float32)  # squared distance to the nearest that is chosen; -1 for that itself
    _update(near, vectors, square, order)
    wide = max(int(np.sqrt(n)), 1)
    while len(order) < count:
        far = np.sort(np.argpartition(-near, wide - 1)[:wide])
        rest = near.copy()
        rest[far] = -1
        bound = rest.max()
        apart = np.maximum(square[far][:, None] + square[far] - 2 * (vectors[far] @ vectors[far].T), 0)
        some = near[far]
        new: list[int] = []
        while len(order) + len(new) < count:
            k = int(some.argmax())
            if some[k] < bound:
                break
            new.append(int(far[k]))
            some = np.minimum(some, apart[k])
            some[k] = -1
        _update(near, vectors, square, new)
        order += new
    return np.array(order, np.int64)


def nearest(vectors: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of the vectors (n, d) the chosen row that is nearest, (n,) int64, and how far it is, (n,)."""
    found, distance = pairwise_distances_argmin_min(vectors, vectors[chosen])
    return np.asarray(chosen)[found], distance


def similarities(vectors: np.ndarray, neighbours: int = NEIGHBOURS) -> scipy.sparse.csc_array:
    """Cosines of unit vectors (n, d) with their nearest `neighbours`, themselves among them: (n, n), sparse.

    Row i holds the cosines of vector i, those below 0 as 0. Up to ALL_PAIRS vectors all pairs are there.
    """
    n = len(vectors)
    most = n if n <= ALL_PAIRS else min(neighbours, n)
    if most <= 1:
        return scipy.sparse.csc_array(scipy.sparse.eye_array(n, dtype=np.float32))
    distance, other = NearestNeighbors(n_neighbors=most - 1, algorithm="brute").fit(vectors).kneighbors()
    cosine = np.concatenate([np.ones((n, 1)), np.maximum(1 - distance**2 / 2, 0)], axis=1).astype(np.float32)
    column = np.concatenate([np.arange(n)[:, None], other], axis=1)
    shape = (n, n)
    return scipy.sparse.csr_array((cosine.ravel(), column.ravel(), np.arange(n + 1) * most), shape).tocsc()


def facility_location(similar: scipy.sparse.csc_array, count: int, chosen: Sequence[int] = ()) -> np.ndarray:
    """Rows (min(count, n),) in the order of choice, `chosen` ones first: each adds most to `covered`.

    similar (n, n) non-negative: entry i, j says how well j stands for i; what is not in it counts as 0. Lazy: a gain
    can only shrink while others are chosen, so old gains are bounds, and most are never taken anew (Minoux 1978,
    "Accelerated greedy algorithms for maximizing submodular set functions").
    """
    n = similar.shape[0]
    start, rows, entries = similar.indptr, similar.indices, similar.data
    best = np.zeros(n, similar.dtype)

    def gain(j: int) -> float:
        part = slice(start[j], start[j + 1])
        return float(np.maximum(entries[part] - best[rows[part]], 0).sum(dtype=np.float64))

    def take(j: int) -> None:
        part = slice(start[j], start[j + 1])
        best[rows[part]] = np.maximum(best[rows[part]], entries[part])

    order = [int(row) for row in chosen][:count]
    for j in order:
        take(j)
    taken = set(order)
    bounds = [(-gain(j), j) for j in range(n) if j not in taken]
    heapq.heapify(bounds)
    while len(order) < min(count, n):
        _, j = bounds[0]
        now = (-gain(j), j)
        heapq.heapreplace(bounds, now)
        if bounds[0] == now:
            heapq.heappop(bounds)
            order.append(j)
            take(j)
    return np.array(order, np.int64)


def covered(similar: scipy.sparse.csc_array, chosen: np.ndarray) -> float:
    """The sum over all rows of the similarity to the chosen row that stands for them best."""
    if not len(chosen):
        return 0.0
    return float(similar[:, np.asarray(chosen)].max(axis=1).sum(dtype=np.float64))


def _update(near: np.ndarray, vectors: np.ndarray, square: np.ndarray, new: Sequence[int]) -> None:
    """Bring the squared distances to the nearest chosen row up to date with `new` ones."""
    if not len(new):
        return
    for start in range(0, len(near), BLOCK):
        part = slice(start, start + BLOCK)
        apart = square[part, None] + square[new] - 2 * (vectors[part] @ vectors[new].T)
        np.minimum(near[part], np.maximum(apart.min(1), 0), out=near[part])
    near[new] = -1
