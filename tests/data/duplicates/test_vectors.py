"""The join of vectors."""

import numpy as np
import pytest

from diorama.data.duplicates import vectors
from diorama.data.duplicates.vectors import join


def clustered(n: int, d: int = 64) -> np.ndarray:
    """Vectors (n, d) in clusters, the last tenth of them near the first."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n // 40 + 1, d))[rng.integers(0, n // 40 + 1, n)] + rng.standard_normal((n, d))
    x[n - n // 10 :] = x[: n // 10] + 0.3 * rng.standard_normal((n // 10, d))
    return x.astype(np.float32)


def brute(x: np.ndarray, cosine: float) -> np.ndarray:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.argwhere(np.triu(unit @ unit.T >= cosine, 1))


def test_small_sets_are_joined_exactly() -> None:
    x = clustered(1000)
    pairs, cosines = join(x, 0.9)
    np.testing.assert_array_equal(pairs, brute(x, 0.9))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(cosines, (unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(1), atol=1e-5)
    np.testing.assert_array_equal(join(3 * x, 0.9)[0], pairs)


def test_large_sets_lose_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SMALL", 100)
    x = clustered(6000)
    truth = {tuple(pair) for pair in brute(x, 0.93)}
    pairs, _ = join(x, 0.93)
    found = {tuple(pair) for pair in pairs}
    assert len(truth) > 100
    assert found <= truth
    assert len(found) == len(pairs) >= 0.995 * len(truth)


def test_empty_and_zero_vectors_have_no_pairs() -> None:
    assert join(np.zeros((0, 8), np.float32), 0.5)[0].shape == (0, 2)
    assert join(np.zeros((5, 8), np.float32), 0.5)[0].shape == (0, 2)
    with pytest.raises(ValueError, match="finite"):
        join(np.full((2, 3), np.nan, np.float32), 0.5)
