"""Near-duplicates of pictures and videos: who shows the same as whom, and which of them to keep.

1. Candidates are frames with hashes within DISTANCE bits. A video's are put in order: the shift in time that most of
   them agree on is kept.
2. A candidate is verified by laying the thumbnails over each other (`alignment.lay`), which needs SCORE; and videos by
   SHARE of the frames of the shorter one, and by what changes over time, of which MOTION must agree: otherwise all
   clips of one camera that stands still would be copies.
3. Groups are stars: everyone was verified against the representative, which is the best by rank, so that A ~ B ~ C
   merges A and C only where A ~ C. Where the hashes missed a pair that a third clip connects, it is verified too.

Pure functions of arrays. Flat pictures have no hashes and are no one's duplicates here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from diorama.data.duplicates.alignment import box_map, lay, motion
from diorama.data.duplicates.hamming import join
from diorama.data.stages.hashes import BOXES, MIRRORED, WHOLE

DISTANCE = 10  # bits of 63, unless told otherwise
FAR = 16  # bits, for pairs that a third clip connects
SCORE = 0.8
SHARE = 0.6
MOTION = 0.5


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
    """The near-duplicates; all pairs of ids that were verified; the comparisons left out (`hamming.join`)."""

    duplicates: list[Duplicate]
    pairs: list[tuple[str, str]]
    skipped: int


@dataclass(frozen=True)
class _Clips:
    """All frames one after another; the clips in the order of their rank, the best first."""

    hashes: np.ndarray  # (frames, 12) uint64
    thumbnails: np.ndarray  # (frames, 64, 64) uint8
    starts: np.ndarray  # (clips + 1,) first frame of each

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    def frames(self, clip: int) -> np.ndarray:
        return np.arange(self.starts[clip], self.starts[clip + 1])


@dataclass(frozen=True)
class _Frames:
    """Pairs of frames (m,): f of clip i with g of clip j > i, by box a of f and box b of g."""

    f: np.ndarray
    g: np.ndarray
    a: np.ndarray
    b: np.ndarray
    i: np.ndarray
    j: np.ndarray
    distance: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> "_Frames":
        return _Frames(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class _Edge:
    distance: int
    score: float
    share: float


_Edges = dict[tuple[int, int], _Edge]


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
    if not len(ids):
        return Found([], [], 0)
    order = sorted(range(len(ids)), key=lambda k: (*(-x for x in np.atleast_1d(rank[k])), ids[k]))
    clips = _Clips(
        np.concatenate([hashes[k] for k in order]),
        np.concatenate([thumbnails[k] for k in order]),
        np.cumsum([0, *(len(hashes[k]) for k in order)]),
    )
    found, skipped = _candidates(clips, mirrored, distance)
    edges = _verified(clips, found)
    edges |= _verified(clips, _connected(clips, edges, mirrored))
    duplicates = [
        Duplicate(ids[order[j]], ids[order[i]], edge.distance, edge.score, edge.share)
        for (i, j), edge in _stars(edges).items()
    ]
    pairs = sorted((ids[order[i]], ids[order[j]]) for i, j in edges)
    return Found(sorted(duplicates, key=lambda duplicate: duplicate.id), pairs, skipped)


def _candidates(clips: _Clips, mirrored: bool, distance: int) -> tuple[_Frames, int]:
    """Frames of different clips with hashes within the distance; clips with equal hashes are looked up once."""
    leader: dict[bytes, int] = {}
    leaders = [leader.setdefault(clips.hashes[clips.frames(k)].tobytes(), k) for k in range(len(clips.lengths))]
    owner = np.repeat(np.arange(len(clips.lengths)), clips.lengths)
    asked = (clips.hashes != 0) & (np.array(leaders) == np.arange(len(leaders)))[owner][:, None]
    if not mirrored:
        asked[:, MIRRORED] = False
    frame, box = np.nonzero(asked)
    pairs, skipped = join(clips.hashes[asked], distance=distance)
    found = _frames(clips, frame[pairs[:, 0]], frame[pairs[:, 1]], box[pairs[:, 0]], box[pairs[:, 1]])
    copies = [
        _frames(clips, clips.frames(leaders[k])[heard], clips.frames(k)[heard], WHOLE, WHOLE)
        for k in range(len(leaders))
        if leaders[k] != k and (heard := clips.hashes[clips.frames(k)][:, WHOLE] != 0).any()
    ]
    return _concatenate([found, *copies]), skipped


def _connected(clips: _Clips, edges: _Edges, mirrored: bool) -> _Frames:
    """Frames of clips that others connect to the best of their group, but of which no hashes were near."""
    boxes = np.arange(len(BOXES)) if mirrored else np.delete(np.arange(len(BOXES)), MIRRORED)
    found = [_concatenate([])]
    for component in _components(edges):
        best = min(component)
        for other in sorted(component - {best}):
            if (best, other) not in edges:
                f, g, a, b = (
                    x.ravel() for x in np.meshgrid(clips.frames(best), clips.frames(other), boxes, boxes, indexing="ij")
                )
                heard = (clips.hashes[f, a] != 0) & (clips.hashes[g, b] != 0)
                pairs = _frames(clips, f[heard], g[heard], a[heard], b[heard])
                found.append(pairs[pairs.distance <= FAR])
    return _concatenate(found)


def _frames(clips: _Clips, f: np.ndarray, g: np.ndarray, a: np.ndarray | int, b: np.ndarray | int) -> _Frames:
    """Those of the pairs, f before g, that may match: each two frames once, by their nearest boxes, and in order."""
    a, b = np.broadcast_to(a, f.shape), np.broadcast_to(b, g.shape)
    i, j = (np.searchsorted(clips.starts, x, "right") - 1 for x in (f, g))
    distance = np.bitwise_count(clips.hashes[f, a] ^ clips.hashes[g, b]).astype(np.int64)
    pairs = _Frames(f, g, a, b, i, j, distance)
    still = clips.lengths == 1
    pairs = pairs[(i != j) & (still[i] == still[j]) & ~((a == MIRRORED) & (b == MIRRORED))]
    pairs = pairs[np.lexsort((pairs.b, pairs.a, pairs.distance, pairs.g, pairs.f))]
    pairs = pairs[_first(pairs.f, pairs.g)]
    return _in_order(clips, pairs)


def _in_order(clips: _Clips, pairs: _Frames) -> _Frames:
    """Of each two clips, the pairs of frames at the shift that most of them have; the smallest of several such."""
    shift = (pairs.g - clips.starts[pairs.j]) - (pairs.f - clips.starts[pairs.i])
    by_shift = np.lexsort((shift, pairs.j, pairs.i))
    pairs, shift = pairs[by_shift], shift[by_shift]
    opens = _first(pairs.i, pairs.j, shift)
    vote = np.cumsum(opens) - 1
    votes = np.bincount(vote)[vote] if len(vote) else vote
    by_votes = np.lexsort((pairs.f, shift, np.abs(shift), -votes, pairs.j, pairs.i))
    pairs, shift = pairs[by_votes], shift[by_votes]
    first = _first(pairs.i, pairs.j)
    kept = shift == shift[first][np.cumsum(first) - 1]
    return pairs[kept]


def _verified(clips: _Clips, pairs: _Frames) -> _Edges:
    """Two clips (i, j), i the better one, whose frames match, with what shows it."""
    lengths = np.minimum(clips.lengths[pairs.i], clips.lengths[pairs.j])
    opens = _first(pairs.i, pairs.j)
    pair = np.cumsum(opens) - 1
    enough = np.bincount(pair)[pair] >= SHARE * lengths if len(pair) else opens
    pairs, lengths = pairs[enough], lengths[enough]
    first, second = clips.thumbnails[pairs.f], clips.thumbnails[pairs.g]
    fit = lay(first, second, box_map(BOXES[pairs.a], BOXES[pairs.b]))
    edges: _Edges = {}
    for start, stop in pairwise(np.flatnonzero([*_first(pairs.i, pairs.j), True])):
        good = start + np.flatnonzero(fit.scores[start:stop] >= SCORE)
        share = len(good) / lengths[start]
        if share >= SHARE and motion(first[good], second[good], fit.maps[good]) >= MOTION:
            distance, score = int(pairs.distance[good].min()), float(np.median(fit.scores[good]))
            edges[int(pairs.i[start]), int(pairs.j[start])] = _Edge(distance, score, float(share))
    return edges


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


def _first(*columns: np.ndarray) -> np.ndarray:
    """Where a new value of the columns begins (m,) bool, in rows sorted by them."""
    new = np.ones(len(columns[0]), bool)
    new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return new


def _concatenate(parts: Sequence[_Frames]) -> _Frames:
    names = _Frames.__dataclass_fields__
    return _Frames(*(np.concatenate([np.zeros(0, np.int64), *(getattr(x, name) for x in parts)]) for name in names))
