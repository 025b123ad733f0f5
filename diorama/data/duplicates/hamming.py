"""All pairs of 64-bit hashes within a Hamming distance, exactly, without comparing all with all.

Multi-index hashing (Norouzi, Punjani & Fleet 2012, "Fast search in Hamming space with multi-index hashing"): cut the
64 bits into m bands, and grant band k a radius r_k so that sum(r_k + 1) = distance + 1. Two hashes within the distance
then differ by at most r_k bits in at least one band k, by the pigeonhole principle.

A band is joined by meeting half-way: of two hashes that differ by r bits in it, one with ceil(r / 2) of them flipped
equals the other with the remaining ones flipped. So each hash is entered under the few keys made by flipping up to
ceil(r / 2) bits rather than being looked up under all keys within r, and equal keys are found by one sort.
"""

from collections.abc import Iterator
from itertools import combinations
from math import comb

import numpy as np

BITS = 64
ENTRIES = 1 << 24  # sorted at a time
CALL = 100  # entries that take as long as calling NumPy
LONGEST = 4096  # entries under one key that are compared with one another; see `join`


def join(
    a: np.ndarray, b: np.ndarray | None = None, *, distance: int, longest: int = LONGEST
) -> tuple[np.ndarray, int]:
    """Pairs of hashes that differ by at most `distance` bits, and the number of comparisons left out.

    a (n,) uint64 is joined with itself: pairs (p, 2) int64 of row numbers i < j. With b (m,) uint64: pairs (i, j) of a
    row of `a` and a row of `b`. Sorted, each pair once; equal hashes are pairs as well. Exact while the second result
    is 0. Under a key that more than `longest` hashes share, each is compared with the next `longest` only, lest many
    equal hashes cost the square of their number; what that left out is counted. Raises ValueError for other arrays or
    a distance outside 0..31.
    """
    if a.dtype != np.uint64 or a.ndim != 1 or (b is not None and (b.dtype != np.uint64 or b.ndim != 1)):
        raise ValueError("hashes are arrays (n,) of uint64")
    if not 0 <= distance < BITS // 2:
        raise ValueError(f"a distance of {distance} bits is outside 0..{BITS // 2 - 1}")
    hashes = a if b is None else np.concatenate([a, b])
    border = None if b is None else len(a)
    found, skipped = [np.zeros(0, np.uint64)], 0
    row_bits = max(len(hashes) - 1, 1).bit_length()
    for start, width, radius in bands(len(hashes), distance):
        band = hashes >> np.uint64(start) & np.uint64((1 << width) - 1)
        for entries in _entries(band, width, (radius + 1) // 2, row_bits):
            pairs, left_out = _meet(entries, row_bits, hashes, border, distance, longest)
            found.append(pairs)
            skipped += left_out
    packed = np.unique(np.concatenate(found))
    pairs = np.stack([packed >> np.uint64(32), packed & np.uint64(0xFFFFFFFF)], -1).astype(np.int64)
    if border is not None:
        pairs[:, 1] -= border
    return pairs, skipped


def bands(rows: int, distance: int) -> list[tuple[int, int, int]]:
    """The cheapest plan for so many rows: (first bit, bits, radius) of each band."""
    return min((_plan(m, distance) for m in range(1, distance + 2)), key=lambda plan: _cost(plan, rows))


def _plan(m: int, distance: int) -> list[tuple[int, int, int]]:
    """m bands of nearly equal width whose radii, plus one each, add up to distance + 1."""
    edges = [BITS * k // m for k in range(m + 1)]
    radii = [(distance + 1) // m - 1 + (k < (distance + 1) % m) for k in range(m)]
    return [(edges[k], edges[k + 1] - edges[k], radii[k]) for k in range(m)]


def _cost(plan: list[tuple[int, int, int]], rows: int) -> float:
    """Entries to sort plus, at a quarter of the price, pairs of them to compare were the hashes random."""
    keys = [(width, _flips(width, (radius + 1) // 2)) for _, width, radius in plan]
    return sum(n * (rows + CALL) + 0.25 * (n * rows) ** 2 / 2**width for width, n in keys)


def _flips(width: int, most: int) -> int:
    return sum(comb(width, k) for k in range(most + 1))


def _entries(band: np.ndarray, width: int, flips: int, row_bits: int) -> Iterator[np.ndarray]:
    """Sorted entries (key, row) as one uint64 each, the key in the high bits, in parts of about ENTRIES whole keys.

    A part is the keys that begin with the same few bits. Where key and row do not fit into 64 bits, those bits, equal
    within a part, are what is left out.
    """
    masks = [sum(1 << bit for bit in bits) for k in range(flips + 1) for bits in combinations(range(width), k)]
    parts = max(len(band) * len(masks) / ENTRIES, 2.0 ** (width + row_bits - BITS))
    head = min(max(int(np.ceil(np.log2(max(parts, 1)))), 0), width)
    tail = np.uint64(width - head)
    rows = np.arange(len(band), dtype=np.uint64)
    order = np.argsort(band >> tail, kind="stable") if head else rows.astype(np.int64)
    starts = np.searchsorted((band >> tail)[order], np.arange((1 << head) + 1, dtype=np.uint64))
    low = np.uint64((1 << int(tail)) - 1)
    for part in range(1 << head):
        pieces = []
        for mask in masks:
            source = part ^ (mask >> int(tail))
            chosen = order[starts[source] : starts[source + 1]]
            key = (band[chosen] ^ np.uint64(mask)) & low
            pieces.append(key << np.uint64(row_bits) | rows[chosen])
        yield np.sort(np.concatenate(pieces))


def _meet(
    entries: np.ndarray, row_bits: int, hashes: np.ndarray, border: int | None, distance: int, longest: int
) -> tuple[np.ndarray, int]:
    """Pairs of rows under equal keys and within the distance, packed as i << 32 | j; and comparisons left out."""
    keys = entries >> np.uint64(row_bits)
    rows = (entries & np.uint64((1 << row_bits) - 1)).astype(np.int64)
    values = hashes[rows]
    found = []
    first = np.flatnonzero(keys[1:] == keys[:-1])  # of entries whose next one has the same key
    lag = 1
    while len(first) and lag <= longest:
        near = first[np.bitwise_count(values[first] ^ values[first + lag]) <= distance]
        i, j = rows[near], rows[near + lag]
        kept = i < j if border is None else (i < border) & (j >= border)
        found.append(i[kept].astype(np.uint64) << np.uint64(32) | j[kept].astype(np.uint64))
        lag += 1
        first = first[first + lag < len(keys)]
        first = first[keys[first] == keys[first + lag]]
    ends = np.searchsorted(keys, keys[first], "right")
    skipped = int((ends - first - lag).sum())
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64), skipped
