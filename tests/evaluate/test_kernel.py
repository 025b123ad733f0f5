import numpy as np
import pytest

from diorama.evaluate import kernel_distance


def normal(n: int, seed: int, shift: float = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, 6))


def test_equals_the_definition_pair_by_pair() -> None:
    x, y = normal(7, 0), normal(5, 1, 0.3)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 6 + 1) ** 3

    within = [np.mean([k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j]) for s in (x, y)]
    want = sum(within) - 2 * np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(want, rel=1e-10)
    assert kernel_distance(x, y, block=3) == pytest.approx(want, rel=1e-10)


def test_unbiased_for_one_law_and_positive_for_two() -> None:
    same = [kernel_distance(normal(60, 2 * i), normal(60, 2 * i + 1)) for i in range(200)]
    error = np.std(same) / np.sqrt(len(same))
    assert abs(np.mean(same)) < 3.5 * error
    assert min(same) < 0
    assert kernel_distance(normal(60, 0), normal(60, 1, 1.0)) > 10 * np.std(same)
