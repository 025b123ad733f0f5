"""Precision and recall of samples by nearest-neighbour manifolds (Kynkäänniemi et al. 2019, eq. 1-3).

A set's manifold is the union of balls around its examples, each as wide as the distance to the example's k-th
neighbour in its own set. Precision is the share of samples inside the real manifold (are they plausible?), recall the
share of real examples inside the samples' manifold (is the variety covered?). Both depend on n; report it.
"""

import numpy as np
from jaxtyping import Float

from diorama.evaluate.neighbours import nearest


def precision_recall(
    samples: Float[np.ndarray, "n d"], real: Float[np.ndarray, "m d"], k: int = 3, block: int = 1024
) -> tuple[float, float]:
    """(precision, recall) in [0, 1]; each side needs more than `k` examples."""
    return _inside(samples, real, k, block), _inside(real, samples, k, block)


def _inside(x: np.ndarray, manifold: np.ndarray, k: int, block: int) -> float:
    manifold = np.asarray(manifold, np.float64)
    squares = (manifold**2).sum(1)
    radius = nearest(manifold, manifold, k, exclude_self=True)[1][:, -1] ** 2
    within = 0
    for i in range(0, len(x), block):
        q = np.asarray(x[i : i + block], np.float64)
        squared = (q * q).sum(1)[:, None] + squares[None] - 2 * q @ manifold.T
        within += int((squared <= radius[None] + 1e-9 * squares[None]).any(1).sum())  # rounding of the products
    return within / len(x)
