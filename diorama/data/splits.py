"""Splits: what is trained on and what is held back, so that nothing held back resembles what was trained on.

Clips that belong together form a component: those of one group, of one asset (a file that was cut), and those that
links connect, such as near-duplicates. What rules left out connects, too: two clips that are both copies of a third
lie in one component though the third is gone. A component goes to one split, whole.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes

TRAIN, TEST = "train", "test"
Link = tuple[str, str]  # two ids
MEMBER = pa.schema([(name, pa.string()) for name in ("id", "group", "asset", "split")])
LINK = pa.schema([("id", pa.string()), ("other", pa.string())])
_NOBODY, _NONE = MEMBER.empty_table(), LINK.empty_table()


def divide(
    clips: pa.Table, links: pa.Table = _NONE, shares: Mapping[str, float] | None = None, left_out: pa.Table = _NOBODY
) -> pa.Array:
    """The split of each clip, in order.

    Args:
        clips: what is kept, as `MEMBER`: each with its group, its asset and the split that was given, or null.
        links: ids that belong together, as `LINK`; clips that were left out may be among them.
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
    everyone = pa.concat_tables([clips.select(MEMBER.names), left_out.select(MEMBER.names)])
    components = _components(everyone, links)
    of = components["component"].to_numpy()[: len(clips)]
    present, nth = np.unique(of, return_inverse=True)
    told = _told(clips["split"])
    splits: list[str | None] = [None] * len(present)
    for k, split in zip(nth[told.is_valid().to_numpy()].tolist(), told.drop_null().to_pylist(), strict=True):
        splits[k] = min((split, splits[k] or split), key=lambda one: (one != TEST, one == TRAIN, one))
    free = np.array([k for k, split in enumerate(splits) if split is None], np.int64)
    named = components.group_by("component").aggregate([("name", "min")]).sort_by("component")
    places = np.array([_place(name) for name in named["name_min"].take(present[free]).to_pylist()])
    for k, split in zip(free.tolist(), _placed(places, shares, {*told.unique().to_pylist()}), strict=True):
        splits[k] = split
    return pc.coalesce(told, pa.array(splits, pa.string()).take(nth)).combine_chunks()


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


def _told(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of words, null where they are empty."""
    return pc.if_else(pc.equal(column, ""), None, column)


def _place(name: str) -> float:
    """Where a name lies in [0, 1)."""
    return int(hash_bytes(name.encode(), 4), 16) / 2**32


def _components(everyone: pa.Table, links: pa.Table) -> pa.Table:
    """The component (a number from 0 on) and the name of everyone, in order; then of ends of links that are no one."""
    ids = pa.concat_arrays([
        c.combine_chunks().cast(pa.string()) for c in (everyone["id"], links["id"], links["other"])
    ]).dictionary_encode()  # fmt: skip
    who, first, second = np.split(ids.indices.to_numpy(), [len(everyone), len(everyone) + len(links)])
    edges = [(first, second)]
    count = len(ids.dictionary)
    for kind in ("group", "asset"):
        value = _told(everyone[kind]).combine_chunks().dictionary_encode()
        there = value.is_valid().to_numpy(zero_copy_only=False)
        edges.append((who[there], count + value.indices.drop_null().to_numpy()))
        count += len(value.dictionary)
    ends = tuple(np.concatenate(side) for side in zip(*edges, strict=True))
    _, component = connected_components(coo_array((np.ones(len(ends[0]), bool), ends), (count, count)), directed=False)
    strangers = np.setdiff1d(np.arange(len(ids.dictionary)), who)
    names = pc.coalesce(_told(everyone["group"]), _told(everyone["asset"]), everyone["id"])
    return pa.table({
        "component": component[np.concatenate([who, strangers])],
        "name": pa.chunked_array([*names.chunks, ids.dictionary.take(strangers)], pa.string()),
    })  # fmt: skip


def _placed(places: np.ndarray, shares: Mapping[str, float], given: set[str | None]) -> list[str]:
    """The split of each component that is free to go anywhere, by its place in [0, 1)."""
    order = sorted(shares, key=lambda split: split != TEST)
    found = np.searchsorted(np.cumsum([shares[split] for split in order]), places, side="right")
    for n, split in enumerate(order):
        training = np.flatnonzero(found == len(order))
        if split not in given and not (found == n).any() and len(training) > 1:
            found[training[np.argmin(places[training])]] = n  # a small set, too, needs one to test on
    return [[*order, TRAIN][n] for n in found]
