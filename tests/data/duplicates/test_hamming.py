"""The join of hashes finds exactly what comparing all with all finds."""

import numpy as np
import pytest

from diorama.data.duplicates import hamming
from diorama.data.duplicates.hamming import bands, join


def neighbours(n: int, seed: int = 0) -> np.ndarray:
    """Random hashes (n,), a quarter of which have a neighbour at each distance from 0 to 14 in turn."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, n, dtype=np.uint64)
    for k in range(n // 4):
        flips = sum(1 << int(bit) for bit in rng.permutation(64)[: k % 15])
        hashes[n - 1 - k] = hashes[k] ^ np.uint64(flips)
    return hashes


@pytest.mark.parametrize("distance", [0, 1, 4, 8, 10, 13])
@pytest.mark.parametrize("n", [0, 1, 2, 60, 2000])
def test_join_equals_brute_force(n: int, distance: int) -> None:
    hashes = neighbours(n)
    far = np.bitwise_count(hashes[:, None] ^ hashes[None])
    pairs, skipped = join(hashes, distance=distance)
    assert skipped == 0
    np.testing.assert_array_equal(pairs, np.argwhere(np.triu(far <= distance, 1)))
    pairs, skipped = join(hashes[: n // 2], hashes[n // 2 :], distance=distance)
    assert skipped == 0
    np.testing.assert_array_equal(pairs, np.argwhere(far[: n // 2, n // 2 :] <= distance))


def test_join_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = neighbours(1500)
    whole, _ = join(hashes, distance=8)
    monkeypatch.setattr(hamming, "ENTRIES", 1000)
    np.testing.assert_array_equal(join(hashes, distance=8)[0], whole)


@pytest.mark.parametrize(("few", "entries"), [(0, 1), (1, 1), (30, 7), (30, 1000), (700, 1000)])
def test_few_hashes_are_joined_with_many(monkeypatch: pytest.MonkeyPatch, few: int, entries: int) -> None:
    monkeypatch.setattr(hamming, "ENTRIES", entries)
    hashes = neighbours(1500)
    a, b = hashes[-few:] if few else hashes[:0], hashes[: 1500 - few]
    truth = np.argwhere(np.bitwise_count(a[:, None] ^ b[None]) <= 9)
    np.testing.assert_array_equal(join(a, b, distance=9)[0], truth)
    assert {(j, i) for i, j in join(b, a, distance=9)[0].tolist()} == set(map(tuple, truth.tolist()))


def test_equal_hashes_are_pairs_and_what_is_left_out_is_counted() -> None:
    hashes = np.full(100, 7, np.uint64)
    pairs, skipped = join(hashes, distance=3)
    assert (len(pairs), skipped) == (100 * 99 // 2, 0)
    pairs, skipped = join(hashes, distance=3, longest=10)
    assert len(pairs) == sum(100 - lag for lag in range(1, 11))
    assert skipped > 0
    assert len(join(hashes[:30], hashes, distance=3)[0]) == 30 * 100
    pairs, skipped = join(hashes[:30], hashes, distance=3, longest=10)
    assert len(pairs) >= 30 * 10
    assert skipped > 0


@pytest.mark.parametrize("rows", [10, 10**4, 10**6, 10**8])
@pytest.mark.parametrize("distance", [0, 5, 8, 10])
def test_bands_cover_all_bits_and_obey_the_pigeonhole_principle(rows: int, distance: int) -> None:
    plan = bands(rows, distance)
    assert sum(width for _, width, _ in plan) == 64
    assert sum(radius + 1 for *_, radius in plan) == distance + 1


def test_other_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="uint64"):
        join(np.zeros(3, np.int64), distance=3)
    with pytest.raises(ValueError, match="outside"):
        join(np.zeros(3, np.uint64), distance=40)
