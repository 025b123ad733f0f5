"""Nearest neighbours by blocks: exact distances, bounded memory."""

import numpy as np


def nearest(
    queries: np.ndarray, references: np.ndarray, k: int = 1, *, exclude_self: bool = False, block: int = 512
) -> tuple[np.ndarray, np.ndarray]:
    """The `k` nearest references of every query, by Euclidean distance.

    queries (n, ...) and references (m, ...), any dtype, uint8 included: examples are flattened, and only `block` a side
    are floats at a time. `exclude_self` is for references that are the queries: no row is then its own neighbour.
    Returns indices (n, k) into references and distances (n, k) float64, nearest first. Neighbours are ranked by float32
    matrix products; their distances are computed anew by subtraction, so a copy is at exactly 0.
    """
    if k > len(references) - exclude_self:
        raise ValueError(f"{k} neighbours asked of {len(references)} references")
    queries, references = queries.reshape(len(queries), -1), references.reshape(len(references), -1)
    return _join([_of_block(queries, i, references, k, exclude_self, block) for i in range(0, len(queries), block)])


def _of_block(
    queries: np.ndarray, start: int, references: np.ndarray, k: int, exclude_self: bool, block: int
) -> tuple[np.ndarray, np.ndarray]:
    exact = queries[start : start + block].astype(np.float64)
    q = exact.astype(np.float32)
    best = np.full((len(q), k), np.inf, np.float32)
    index = np.zeros((len(q), k), np.int64)
    for j in range(0, len(references), block):
        r = references[j : j + block].astype(np.float32)
        squared = (r * r).sum(1)[None] - 2 * (q @ r.T)  # the query's own square does not change the order
        columns = np.arange(j, j + len(r))
        if exclude_self:
            squared[np.arange(start, start + len(q))[:, None] == columns[None]] = np.inf
        best = np.concatenate([best, squared], 1)
        index = np.concatenate([index, np.broadcast_to(columns, squared.shape)], 1)
        order = np.argsort(best, 1, kind="stable")[:, :k]
        best, index = np.take_along_axis(best, order, 1), np.take_along_axis(index, order, 1)
    distance = np.stack([np.linalg.norm(exact - references[i], axis=1) for i in index.T], 1)
    order = np.argsort(distance, 1, kind="stable")
    return np.take_along_axis(index, order, 1), np.take_along_axis(distance, order, 1)


def _join(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
