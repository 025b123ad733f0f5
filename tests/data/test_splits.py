"""Splits: nothing that belongs together is torn apart, and as little as possible moves."""

import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes
from diorama.data import splits as divided_by
from diorama.data.splits import LINK, MEMBER, Crossing, crossing, same

SPLITS = [None, None, None, None, "train", "test", "val"]
SHARES = {"validation": 0.2, "test": 0.3}


def clip(name: str, group: str | None = None, split: str | None = None, asset: str | None = None) -> dict:
    return {"id": name, "group": group, "split": split, "asset": asset}


def divide(clips: list[dict], links=(), shares=None, left_out=()) -> list[str]:
    table = [pa.Table.from_pylist(list(rows), MEMBER) for rows in (clips, left_out)]
    pairs = pa.Table.from_pylist([{"id": a, "other": b} for a, b in links], LINK)
    return divided_by.divide(table[0], pairs, shares, table[1]).to_pylist()


@st.composite
def worlds(draw, given_splits: bool = False):
    """Clips and links: ids, some groups and assets, some links, a few of them to what was left out."""
    n = draw(st.integers(2, 40))
    some = st.none() | st.integers(0, 12).map(str)
    clips = [
        clip(f"i{k}", draw(some.map(lambda x: x and f"g{x}")), draw(st.sampled_from(SPLITS)) if given_splits else None,
             draw(some.map(lambda x: x and f"a{x}")))
        for k in range(n)
    ]  # fmt: skip
    ends = st.integers(0, n + 5).map(lambda k: f"i{k}")
    return clips, draw(st.lists(st.tuples(ends, ends), max_size=20))


def components(clips: list[dict], links: list[tuple[str, str]]) -> dict[str, int]:
    """The component of every id, by repainting until nothing changes: slow, and plainly right."""
    edges = [*links, *same(clips, "group"), *same(clips, "asset")]
    colour = {i: i for i in [c["id"] for c in clips] + [end for link in links for end in link]}
    while any(colour[a] != colour[b] for a, b in edges):
        for a, b in edges:
            colour[a] = colour[b] = min(colour[a], colour[b])
    return colour


def of(clips: list[dict], splits: list[str]) -> dict[str, str]:
    return {c["id"]: split for c, split in zip(clips, splits, strict=True)}


@settings(max_examples=50)
@given(worlds())
def test_no_link_no_group_and_no_file_crosses(world):
    clips, links = world
    splits = divide(clips, links, SHARES)
    divided = [c | {"split": split} for c, split in zip(clips, splits, strict=True)]
    pairs = [*links, *same(clips, "group"), *same(clips, "asset")]
    assert crossing(divided, pairs) == []
    by_component: dict = {}
    colour = components(clips, links)
    for c in divided:
        by_component.setdefault(colour[c["id"]], set()).add(c["split"])
    assert all(len(found) == 1 for found in by_component.values())


@settings(max_examples=50)
@given(worlds(given_splits=True))
def test_a_given_split_stays_and_holds_for_its_component(world):
    clips, links = world
    splits = of(clips, divide(clips, links, SHARES))
    colour = components(clips, links)
    for c in clips:
        told = {d["split"] for d in clips if colour[d["id"]] == colour[c["id"]] and d["split"]}
        if c["split"]:
            assert splits[c["id"]] == c["split"]
        elif told:
            held = "test" if "test" in told else min(told - {"train"}, default="train")
            assert splits[c["id"]] == held


@settings(max_examples=50)
@given(worlds(given_splits=True), st.randoms(use_true_random=False))
def test_the_order_of_clips_and_links_is_nothing(world, rng: random.Random):
    clips, links = world
    before = of(clips, divide(clips, links, SHARES))
    clips, links = rng.sample(clips, len(clips)), [link[::-1] for link in rng.sample(links, len(links))]
    assert of(clips, divide(clips, links, SHARES)) == before


@settings(max_examples=50)
@given(worlds(given_splits=True), st.floats(0, 1))
def test_without_links_it_is_the_rule_by_groups(world, share):
    clips, _ = world
    clips = [c | {"asset": None} for c in clips]
    assert divide(clips, (), {"test": share}) == by_groups(clips, share)


def by_groups(clips: list[dict], share: float) -> list[str]:
    """Splits by group and hash, a clip at a time."""

    def told(c: dict) -> str | None:
        others = {d["split"] for d in clips if d["group"] and d["group"] == c["group"] and d["split"]}
        held = "test" if "test" in others else min(others - {"train"}, default="train" if others else None)
        return c["split"] or held

    def hashed(c: dict) -> float:
        return int(hash_bytes((c["group"] or c["id"]).encode(), 4), 16) / 2**32

    free = {hashed(c) for c in clips if not told(c)}
    test = {place for place in free if place < share}
    if not test and len(free) > 1 and all(told(c) != "test" for c in clips):
        test = {min(free)}
    return [told(c) or ("test" if hashed(c) in test else "train") for c in clips]


def test_shares_are_met_and_the_test_set_keeps_its_place():
    clips = [clip(f"clip {k}", f"group {k // 3}" if k % 2 else None) for k in range(20_000)]
    splits = divide(clips, [], {"validation": 0.05, "test": 0.1})
    assert abs(splits.count("test") / len(clips) - 0.1) < 0.01
    assert abs(splits.count("validation") / len(clips) - 0.05) < 0.008
    only = divide(clips, [], {"test": 0.1})
    assert [s == "test" for s in only] == [s == "test" for s in splits]


def test_a_large_component_is_held_back_no_more_often_than_a_small_one():
    clips = [clip(f"{k} {member}") for k in range(3000) for member in range(8)]
    links = [(f"{k} {m}", f"{k} {m + 1}") for k in range(3000) for m in range(7)]
    assert abs(divide(clips, links, {"test": 0.1}).count("test") / len(clips) - 0.1) < 0.02


def test_a_new_clip_moves_none_but_those_that_it_joins_or_names():
    rng = random.Random(0)
    clips = [clip(f"{rng.getrandbits(64):016x}") for _ in range(400)]
    links = [(clips[k]["id"], clips[k + 1]["id"]) for k in range(0, 400, 4)]
    before = of(clips, divide(clips, links, SHARES))
    assert len({*before.values()}) == 3
    for k in range(50):
        new = clip(f"{rng.getrandbits(64):016x}")
        old = rng.choice(clips)["id"]
        after = of([*clips, new], divide([*clips, new], [*links, (new["id"], old)], SHARES))
        colour = components([*clips, new], [*links, (new["id"], old)])
        moved = {i for i in before if after[i] != before[i]}
        assert all(colour[i] == colour[old] for i in moved)
        mates = [i for i in before if colour[i] == colour[old]]
        if new["id"] > min(mates):
            assert not moved
        joined = of(clips, divide(clips, [*links, (clips[k]["id"], old)], SHARES))
        first = min(i for i in mates + [j for j in before if colour[j] == colour[clips[k]["id"]]])
        assert all(joined[i] == (joined[first] if colour[i] in (colour[old], colour[clips[k]["id"]]) else before[i])
                   for i in before)  # fmt: skip
        assert joined[first] == before[first]


@settings(max_examples=50)
@given(worlds(), st.sets(st.integers(0, 39)))
def test_what_rules_leave_out_moves_no_other(world, out):
    clips, links = world
    clips = [*clips, *(clip(f"more {k}") for k in range(200))]  # so that no split is empty
    before = of(clips, divide(clips, links, SHARES))
    kept, left_out = [c for k, c in enumerate(clips) if k not in out], [c for k, c in enumerate(clips) if k in out]
    after = of(kept, divide(kept, links, SHARES, left_out))
    assert after == {i: before[i] for i in after}


def test_what_was_left_out_connects():
    clips = [clip("a"), clip("c", split="test"), clip("d", group="g"), clip("e", asset="f", split="validation")]
    left_out = [clip("b", group="g", split="train"), clip("x", asset="f"), clip("y")]
    links = [("a", "gone"), ("gone", "c"), ("y", "x")]
    splits = of(clips, divide([*clips, clip("z")], [*links, ("z", "y")], {}, left_out)[:4])
    assert splits == {"a": "test", "c": "test", "d": "train", "e": "validation"}
    assert divide([*clips, clip("z")], [*links, ("z", "y")], {}, left_out)[4] == "validation"


def test_an_exact_copy_links_its_own_group():
    latest = [clip("a", "g"), clip("a", "h"), clip("b", "h"), clip("c", None), clip("d", "")]
    assert same(latest, "group") == [("a", "b")]


@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_small_set_is_held_back_from_as_long_as_one_is_left_to_train_on(n):
    splits = divide([clip(str(k)) for k in range(n)], (), {"validation": 1e-9, "test": 1e-9})
    assert splits.count("test") == 1
    assert splits.count("validation") == (n > 2)
    assert splits.count("train") == max(n - 2, 1)


def test_the_check_finds_pairs_over_two_splits():
    clips = [clip("a", split="train"), clip("b", split="test"), clip("c", split="train")]
    assert crossing(clips, [("b", "a"), ("a", "b"), ("a", "c"), ("b", "away")]) == [
        Crossing("a", "b", ("train", "test"))
    ]
    assert str(crossing(clips, [("b", "a")])[0]) == "a (train) and b (test)"


def test_given_splits_that_contradict_a_link_are_kept_and_found():
    clips = [clip("a", split="train"), clip("b", split="test"), clip("c")]
    links = [("a", "b"), ("b", "c")]
    splits = divide(clips, links)
    assert splits == ["train", "test", "test"]
    divided = [c | {"split": split} for c, split in zip(clips, splits, strict=True)]
    assert [(x.first, x.second) for x in crossing(divided, links)] == [("a", "b")]


@pytest.mark.parametrize("shares", [{"test": -0.1}, {"test": 0.6, "validation": 0.6}, {"train": 0.5}])
def test_shares_that_cannot_be_are_refused(shares):
    with pytest.raises(UserError, match="shares held back"):
        divide([clip("a")], (), shares)


@pytest.mark.parametrize(
    ("told", "got"),
    [
        ({0: "test"}, ["test"] * 4),
        ({2: "train"}, ["train"] * 4),
        ({1: "train", 3: "test"}, ["test", "train", "test", "test"]),
        ({0: "train", 1: "val"}, ["train", "val", "val", "val"]),
        ({0: "val", 1: "test", 2: "train"}, ["val", "test", "train", "test"]),
    ],
)
@pytest.mark.parametrize("test_share", [0.0, 1.0])
def test_a_given_split_counts_for_its_whole_group(told, got, test_share):
    clips = [{"id": str(i), "group": "one", "split": told.get(i)} for i in range(4)]
    alone = {"id": "4", "group": None, "split": None}
    found = divide([*clips, alone], shares={"test": test_share})
    assert found == [*got, "test" if test_share else "train"]


def test_splits_by_hash_stay_what_they_were():
    clips = [{"id": f"clip {i}", "group": f"group {i // 2}" if i % 3 else None, "split": None} for i in range(100)]
    assert [i for i, split in enumerate(divide(clips)) if split == "test"] == [10, 11, 30, 51]
