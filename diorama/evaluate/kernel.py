"""The kernel distance: an unbiased squared maximum mean discrepancy.

With k(x, y) = (x·y / d + 1)³ (Binkowski et al. 2018, there on Inception features and called KID). Unlike the Fréchet
distance it is unbiased: its expectation is 0 for two sets of the same law at any n, so it falls on either side of 0.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float


def kernel_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], block: int = 2048) -> float:
    """The unbiased estimate over all pairs; needs two examples a side. Memory is bounded by `block²` kernels."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n, m = len(x), len(y)
    within_x = (_total(x, x, block) - _kernel((x * x).sum(1), x.shape[1]).sum()) / (n * (n - 1))
    within_y = (_total(y, y, block) - _kernel((y * y).sum(1), y.shape[1]).sum()) / (m * (m - 1))
    return float(within_x + within_y - 2 * _total(x, y, block) / (n * m))


def _kernel(products: np.ndarray, d: int) -> np.ndarray:
    return (products / d + 1) ** 3


def _total(x: np.ndarray, y: np.ndarray, block: int) -> float:
    return sum(_kernel(a @ b.T, x.shape[1]).sum() for a in _blocks(x, block) for b in _blocks(y, block))


def _blocks(x: np.ndarray, block: int) -> Iterator[np.ndarray]:
    return (x[i : i + block] for i in range(0, len(x), block))
