"""Near-duplicates of pictures and videos: who shows the same as whom, and which of them to keep.

1. Candidates are clips of which enough frames have hashes within DISTANCE bits (`candidates`).
2. A candidate is verified by laying thumbnails over each other (`matches.verify`).
3. Groups are stars: everyone was verified against the representative, which is the best by rank, so that A ~ B ~ C
   merges A and C only where A ~ C. Where the hashes missed a pair that a third clip connects, it is verified too.

Clips whose hashes are all equal have the same candidates: the best of them stands for the others, which are verified
against it alone. What was found of two clips is kept in a `Memory`; groups are made anew each time, so that they depend
on the clips and their rank alone. Flat pictures have no hashes and are no one's duplicates here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diorama.data.duplicates.arrays import rows_of
from diorama.data.duplicates.candidates import Signatures, candidates
from diorama.data.duplicates.matches import Outcome
from diorama.data.duplicates.memory import Memory
from diorama.data.duplicates.verified import verified

DISTANCE = 10  # bits of 63, unless told otherwise
FAR = 16  # bits, for pairs that a third clip connects

_Edges = dict[tuple[int, int], Outcome]


@dataclass(frozen=True)
class Duplicate:
    """A clip that shows what `representative` shows, and why: every figure meets DISTANCE (or FAR), SCORE and SHARE.

    distance: fewest bits in which a hash of the one differs from one of the other. score: median correlation of the
    frames that match, once laid over each other. share: frames that match, of those of the shorter clip.
    """

    id: str
    representative: str
    distance: int
    score: float
    share: float


@dataclass(frozen=True)
class Found:
    """The near-duplicates; all pairs of ids that were verified; the comparisons now left out (`hamming.join`)."""

    duplicates: list[Duplicate]
    pairs: list[tuple[str, str]]
    skipped: int


def near_duplicates(
    ids: Sequence[str],
    hashes: Sequence[np.ndarray],
    thumbnails: Sequence[np.ndarray],
    rank: np.ndarray,
    *,
    mirrored: bool = True,
    distance: int = DISTANCE,
) -> Found:
    """The near-duplicates among clips, each with its representative.

    hashes (n, 12) uint64 and thumbnails (n, 64, 64) uint8 of each clip, as `hashes.signature` gives them. rank
    (clips, k): what makes a clip the better one to keep, higher is better, the first column decides first; then the
    smaller id does. A still, n = 1, meets stills only. mirrored: pictures that mirror each other are duplicates too.
    distance: of candidates, in bits; 8 finds fewer of the strong crops at a tenth of the cost, for 30,000 frames and
    more. Sorted by id, whatever the order of the clips. Raises ValueError where lengths differ or an id comes twice.
    """
    if not len(ids) == len(hashes) == len(thumbnails) == len(rank) or len(set(ids)) < len(ids):
        raise ValueError("near_duplicates needs distinct ids, and hashes, thumbnails and a rank for each")
    held = {"hashes": hashes, "thumbnails": thumbnails}
    all_ids = pa.array(ids, pa.string())

    def signatures(asked: pa.Array, column: str) -> pa.Table:
        rows = rows_of(asked, all_ids).tolist()
        return pa.table({"id": asked, column: pa.array([held[column][k].tobytes() for k in rows], pa.large_binary())})

    return find(all_ids, rank, signatures, Memory(None), mirrored=mirrored, distance=distance)


def find(
    ids: pa.Array, rank: np.ndarray, signatures: Signatures, memory: Memory, *, mirrored: bool, distance: int
) -> Found:
    """As `near_duplicates`, of clips whose signatures are asked for where the memory does not say what they would.

    Clips that have none are no one's duplicates. The memory is told what was found, and must be one of this distance,
    of as many mirrored ones, and of these signatures.
    """
    alike = candidates(ids, signatures, memory, mirrored=mirrored, distance=distance)
    codes, near = _among(alike.codes, alike.near)
    clips = np.flatnonzero(codes >= 0)
    ids, codes = ids.take(pa.array(clips)), codes[clips]
    order = np.lexsort((np.argsort(pc.array_sort_indices(ids).to_numpy()), *(-rank[clips].T[::-1])))
    ids, codes = ids.take(pa.array(order)), codes[order]  # from now on clips are numbers, and the smaller is better

    present, leaders, member = np.unique(codes, return_index=True, return_inverse=True)
    others = np.flatnonzero(leaders[member] != np.arange(len(codes)))
    pairs = np.concatenate([leaders[np.searchsorted(present, near)], np.stack([leaders[member[others]], others], -1)])

    def edges_of(pairs: np.ndarray, reach: int) -> _Edges:
        return verified(ids, np.sort(pairs, axis=1), reach, signatures, memory, mirrored=mirrored)

    edges = edges_of(pairs, distance)
    edges |= edges_of(_connected(edges), FAR)
    names = ids.to_pylist()
    duplicates = [
        Duplicate(names[j], names[i], edge.distance, edge.score, edge.share) for (i, j), edge in _stars(edges).items()
    ]
    return Found(
        sorted(duplicates, key=lambda duplicate: duplicate.id),
        sorted((names[i], names[j]) for i, j in edges),
        alike.skipped,
    )


def _among(codes: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes as small numbers (n,), -1 for clips like no other one; and those pairs of them that both are there."""
    present, member, counts = np.unique(codes, return_inverse=True, return_counts=True)
    if not len(present):
        return member, np.zeros((0, 2), np.int64)
    at = np.minimum(np.searchsorted(present, near), len(present) - 1)
    at = at[(present[at] == near).all(-1)]
    alike = counts > 1
    alike[at] = True
    alike[present == 0] = False
    return np.where(alike[member], member, -1), at


def _connected(edges: _Edges) -> np.ndarray:
    """Pairs (p, 2) of clips and the best of their group, with which others connect them, but no edge does."""
    pairs = []
    for component in _components(edges):
        best = min(component)
        pairs += [(best, other) for other in sorted(component) if other != best and (best, other) not in edges]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _components(edges: Iterable[tuple[int, int]]) -> list[set[int]]:
    """The connected components of a graph, by union-find; each clip's root is the best of its component."""
    root: dict[int, int] = {}

    def find(k: int) -> int:
        while root.setdefault(k, k) != k:
            root[k] = k = root[root[k]]
        return k

    for i, j in edges:
        low, high = sorted((find(i), find(j)))
        root[high] = low
    components: dict[int, set[int]] = {}
    for k in list(root):
        components.setdefault(find(k), set()).add(k)
    return list(components.values())


def _stars(edges: _Edges) -> _Edges:
    """The edges from representatives to their members: from the best clip on, each takes its neighbours still free."""
    members: set[int] = set()
    stars: _Edges = {}
    for i, j in sorted(edges):
        if i in members or j in members:
            continue
        members.add(j)
        stars[i, j] = edges[i, j]
    return stars
