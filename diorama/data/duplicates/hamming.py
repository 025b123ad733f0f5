"""All pairs of 64-bit hashes within a Hamming distance, exactly, without comparing all with all.

Multi-index hashing (Norouzi, Punjani & Fleet 2012, "Fast search in Hamming space with multi-index hashing"): cut the
64 bits into m bands, and grant band k a radius r_k so that sum(r_k + 1) = distance + 1. Two hashes within the distance
then differ by at most r_k bits in at least one band k, by the pigeonhole principle.

A band is joined by meeting half-way: of two hashes that differ by r bits in it, one with ceil(r / 2) of them flipped
equals the other with the remaining ones flipped. So each hash is entered under the few keys made by flipping up to
ceil(r / 2) bits rather than being looked up under all keys within r, and equal keys are found by one sort.

Two arrays are joined otherwise, since a few new hashes should cost little beside many old ones: those of the one are
sorted by the band, and each of the other is looked up under all keys within r.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import comb

import numpy as np

BITS = 64
ENTRIES = 1 << 24  # sorted at a time
CALL = 100  # entries that take as long as calling NumPy
LONGEST = 4096  # entries under one key that are compared with one another; see `join`
DENSE = 16  # one in so many entries takes as long to pick out as all take in their order
TABLE = 24  # bits of the longest table of where keys begin


def join(
    a: np.ndarray, b: np.ndarray | None = None, *, distance: int, longest: int = LONGEST
) -> tuple[np.ndarray, int]:
    """Pairs of hashes that differ by at most `distance` bits, and the number of comparisons left out.

    a (n,) uint64 is joined with itself: pairs (p, 2) int64 of row numbers i < j. With b (m,) uint64: pairs (i, j) of a
    row of `a` and a row of `b`; cheap where one of both is short. Sorted, each pair once; equal hashes are pairs as
    well. Exact while the second result is 0. Under a key that more than `longest` hashes share, each is compared with
    `longest` of them only, lest many equal hashes cost the square of their number; what that left out is counted.
    Raises ValueError for other arrays or a distance outside 0..31.
    """
    if a.dtype != np.uint64 or a.ndim != 1 or (b is not None and (b.dtype != np.uint64 or b.ndim != 1)):
        raise ValueError("hashes are arrays (n,) of uint64")
    if not 0 <= distance < BITS // 2:
        raise ValueError(f"a distance of {distance} bits is outside 0..{BITS // 2 - 1}")
    parts = _own(a, distance, longest) if b is None else _cross(a, b, distance, longest)
    found, skipped = [np.zeros(0, np.uint64)], 0
    for pairs, left_out in parts:
        found.append(pairs)
        skipped += left_out
    packed = np.unique(np.concatenate(found))
    return np.stack([packed >> np.uint64(32), packed & np.uint64(0xFFFFFFFF)], -1).astype(np.int64), skipped


def spread(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of consecutive numbers, `counts` of them from each of `starts` on: which run each is of, and the numbers."""
    run = np.repeat(np.arange(len(counts)), counts)
    return run, np.arange(len(run)) + (starts - np.cumsum(counts) + counts)[run]


def bands(rows: int, distance: int) -> list[tuple[int, int, int]]:
    """The cheapest plan for so many rows: (first bit, bits, radius) of each band."""
    return min((_plan(m, distance) for m in range(1, distance + 2)), key=lambda plan: _cost(plan, rows))


def _own(hashes: np.ndarray, distance: int, longest: int) -> Iterator[tuple[np.ndarray, int]]:
    """Pairs of rows of one array, packed as i << 32 | j, in parts; and comparisons left out of each."""
    row_bits = max(len(hashes) - 1, 1).bit_length()
    for start, width, radius in bands(len(hashes), distance):
        for entries in _entries(_band(hashes, start, width), width, (radius + 1) // 2, row_bits):
            yield _meet(entries, row_bits, hashes, distance, longest)


def _cross(a: np.ndarray, b: np.ndarray, distance: int, longest: int) -> Iterator[tuple[np.ndarray, int]]:
    """As `_own`, of a row of `a` and a row of `b`."""
    if not len(a) or not len(b):
        return
    if len(a) > len(b):
        for pairs, left_out in _cross(b, a, distance, longest):
            yield pairs << np.uint64(32) | pairs >> np.uint64(32), left_out
        return
    plans = [_narrowed(_plan(m, distance), len(b)) for m in range(1, distance + 2)]
    for start, width, radius in min(plans, key=lambda plan: _cross_cost(plan, len(a), len(b))):
        order = np.argsort(_band(b, start, width))
        values = b[order]
        firsts = np.searchsorted(_band(values, start, width), np.arange((1 << width) + 1, dtype=np.uint64))
        rows = np.argsort(_band(a, start, width))  # in this order the table is read nearly from end to end
        asked = _band(a[rows], start, width).astype(np.int64)
        for mask in _masks(width, radius):
            keys = asked ^ mask
            counts = firsts[keys + 1] - firsts[keys]
            compared = np.minimum(counts, longest)
            parts = np.searchsorted(np.cumsum(compared), np.arange(0, compared.sum() + ENTRIES, ENTRIES), "right")
            for low, high in pairwise(parts):
                run, at = spread(firsts[keys[low:high]], compared[low:high])
                i = rows[low:high][run]
                near = np.bitwise_count(a[i] ^ values[at]) <= distance
                yield i[near].astype(np.uint64) << np.uint64(32) | order[at[near]].astype(np.uint64), 0
            yield np.zeros(0, np.uint64), int((counts - compared).sum())


def _band(hashes: np.ndarray, start: int, width: int) -> np.ndarray:
    return hashes >> np.uint64(start) & np.uint64((1 << width) - 1)


def _masks(width: int, flips: int) -> list[int]:
    """All ways to flip up to so many of the bits."""
    return [sum(1 << bit for bit in bits) for k in range(flips + 1) for bits in combinations(range(width), k)]


def _narrowed(plan: list[tuple[int, int, int]], rows: int) -> list[tuple[int, int, int]]:
    """A plan whose bands have no more bits than a table of so many rows is worth; fewer bits differ in fewer."""
    most = min(rows.bit_length() + 1, TABLE)
    return [(start, min(width, most), min(radius, width, most)) for start, width, radius in plan]


def _cross_cost(plan: list[tuple[int, int, int]], few: int, many: int) -> float:
    """Rows to sort, keys to look up, and pairs to compare were the hashes random."""
    return sum(
        20 * many + 2**width + _flips(width, radius) * (few + CALL + few * many / 2**width) for _, width, radius in plan
    )


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
    masks = _masks(width, flips)
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
    entries: np.ndarray, row_bits: int, hashes: np.ndarray, distance: int, longest: int
) -> tuple[np.ndarray, int]:
    """Pairs of rows under equal keys and within the distance, packed as i << 32 | j; and comparisons left out."""
    keys = entries >> np.uint64(row_bits)
    rows = (entries & np.uint64((1 << row_bits) - 1)).astype(np.int64)
    values = hashes[rows]
    found = []
    first = np.flatnonzero(keys[1:] == keys[:-1])  # of entries whose next one has the same key
    lag = 1
    while len(first) and lag <= longest:
        dense = len(first) > len(keys) // DENSE
        if dense:  # of all: what lies under unequal keys and is near is a pair as well
            near = np.flatnonzero(np.bitwise_count(values[:-lag] ^ values[lag:]) <= distance)
        else:
            near = first[np.bitwise_count(values[first] ^ values[first + lag]) <= distance]
        i, j = rows[near], rows[near + lag]
        kept = i < j
        found.append(i[kept].astype(np.uint64) << np.uint64(32) | j[kept].astype(np.uint64))
        lag += 1
        if dense:
            first = np.flatnonzero(keys[lag:] == keys[:-lag])
        else:
            first = first[first + lag < len(keys)]
            first = first[keys[first] == keys[first + lag]]
    ends = np.searchsorted(keys, keys[first], "right")
    skipped = int((ends - first - lag).sum())
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64), skipped
