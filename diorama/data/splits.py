"""Splits: what is trained on and what is held back, so that nothing held back resembles what was trained on.

Clips that belong together form a component: those of one group, of one asset (a file that was cut), and those that
links connect, such as near-duplicates. What rules left out connects, too: two clips that are both copies of a third
lie in one component though the third is gone. A component goes to one split, whole.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes

TRAIN, TEST = "train", "test"
Link = tuple[str, str]  # two ids


def divide(
    clips: Sequence[Mapping[str, Any]],
    links: Iterable[Link] = (),
    shares: Mapping[str, float] | None = None,
    left_out: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """The split of each clip, in order.

    Args:
        clips: what is kept, each with `id`, `group`, `split` (given, or null), and perhaps `asset`.
        links: pairs of ids that belong together; clips that were left out may be among them.
        shares: of the components without a given split, those held back, by split; {"test": 0.1} unless told
            otherwise. The rest is 'train'.
        left_out: clips that rules left out, as `clips`. They connect and name components; a split given to one of them
            does not count.

    A given split is never changed, and counts for the rest of its component; where several are given, the held-back one
    does: 'test', else any but 'train'. `crossing` finds where given splits contradict links.

    All other components go by a hash of their name, the smallest among their members' names: its group, else its asset,
    else its id. 'test' takes the lowest hashes, then come the others of `shares` in their order. So a clip that is
    added moves no other clip, but where
    - it joins components: all but the one of the smallest name go where that one lies;
    - it has a smaller name than all others of its component, which then lies by that name;
    - it brings a given split, which its component follows;
    - a set is too small for any component to fall to a split of `shares`: there the lowest hash is taken of those that
      would train, as long as one is left to train on, and a later clip may have a lower one.
    Leaving out a clip whose split was not given moves no other, as long as it is in `left_out`. Another share for one
    split moves the bounds of those after it, never those of 'test'.

    Raises `UserError` for shares that are negative, sum to more than 1, or name 'train'.
    """
    shares = {TEST: 0.1} if shares is None else shares
    if min(shares.values(), default=0) < 0 or sum(shares.values()) > 1 + 1e-9 or TRAIN in shares:
        raise UserError(f"shares held back are 0 or above, sum to 1 at most, and name no '{TRAIN}': {dict(shares)}")
    everyone = [*clips, *left_out]
    component = _components(everyone, links)
    of = [component[clip["id"]] for clip in clips]
    known = {clip["id"] for clip in everyone}
    names: dict[int, str] = {}
    for end, number in [
        *((_name(clip), component[clip["id"]]) for clip in everyone),
        *((end, number) for end, number in component.items() if end not in known),
    ]:
        names[number] = min(end, names.get(number, end))
    given: dict[int, str] = {}
    for clip, number in zip(clips, of, strict=True):
        if clip["split"]:
            rivals = (clip["split"], given.get(number, clip["split"]))
            given[number] = min(rivals, key=lambda split: (split != TEST, split == TRAIN, split))
    place = {number: _place(names[number]) for number in dict.fromkeys(of) if number not in given}
    placed = _placed(place, shares, {clip["split"] for clip in clips})
    return [clip["split"] or given.get(number) or placed[number] for clip, number in zip(clips, of, strict=True)]


def same(rows: Iterable[Mapping[str, Any]], key: str) -> list[Link]:
    """Links between rows that have one value of `key`, each to the next; null and "" are no value.

    Of every item ever seen, kept or not, with "group": a clip is linked to the group of its exact copy, too.
    """
    found: dict[str, list[str]] = {}
    for row in rows:
        if row[key]:
            found.setdefault(row[key], []).append(row["id"])
    return [link for ids in found.values() for link in pairwise(ids) if link[0] != link[1]]


@dataclass(frozen=True)
class Crossing:
    """Two clips that belong together and lie in different splits."""

    first: str
    second: str
    splits: tuple[str, str]

    def __str__(self) -> str:
        return f"{self.first} ({self.splits[0]}) and {self.second} ({self.splits[1]})"


def crossing(clips: Iterable[Mapping[str, Any]], pairs: Iterable[Link]) -> list[Crossing]:
    """The pairs of ids that lie in two splits, each once, sorted: the check for leakage, right where it is empty.

    clips: what is kept, with `id` and `split`; pairs of which one is not among them cross nothing.
    """
    split = {clip["id"]: clip["split"] for clip in clips}
    there = {tuple(sorted(pair)) for pair in pairs if pair[0] in split and pair[1] in split}
    return [Crossing(a, b, (split[a], split[b])) for a, b in sorted(there) if split[a] != split[b]]


def _name(clip: Mapping[str, Any]) -> str:
    return clip["group"] or clip.get("asset") or clip["id"]


def _place(name: str) -> float:
    """Where a name lies in [0, 1)."""
    return int(hash_bytes(name.encode(), 4), 16) / 2**32


def _components(clips: Sequence[Mapping[str, Any]], links: Iterable[Link]) -> dict[str, int]:
    """The number of the component of every id."""
    number: dict[tuple[str, str], int] = {}

    def node(kind: str, value: str) -> int:
        return number.setdefault((kind, value), len(number))

    edges = [(node("id", a), node("id", b)) for a, b in links]
    for clip in clips:
        here = node("id", clip["id"])
        edges += [(here, node(kind, value)) for kind in ("group", "asset") if (value := clip.get(kind))]
    ends = np.array(edges, np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), (len(number), len(number)))
    _, labels = connected_components(graph, directed=False)
    return {value: int(labels[k]) for (kind, value), k in number.items() if kind == "id"}


def _placed(place: Mapping[int, float], shares: Mapping[str, float], given: set[str | None]) -> dict[int, str]:
    """The split of each component that is free to go anywhere."""
    order = sorted(shares, key=lambda split: split != TEST)
    upper = np.cumsum([shares[split] for split in order])
    names = [*order, TRAIN]
    indices = np.searchsorted(upper, list(place.values()), side="right").tolist()
    placed = {number: names[index] for number, index in zip(place, indices, strict=True)}
    for split in order:
        training = [number for number, other in placed.items() if other == TRAIN]
        if split not in given and split not in placed.values() and len(training) > 1:
            placed[min(training, key=lambda number: place[number])] = split  # a small set, too, needs one to test on
    return placed
