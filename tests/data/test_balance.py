"""Balance: weights by rarity, quotas kept to the clip, and choices that stand for all, against brute force."""

from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diorama.core.errors import UserError
from diorama.data import Catalogue, Curation, curate
from diorama.data.balance import (
    ByHash,
    Diverse,
    FacilityLocation,
    Highest,
    InverseFrequency,
    KCentre,
    Lowest,
    Quota,
    Spread,
    Temperature,
    combined,
    distribution,
    effective,
)
from diorama.data.balance.coverage import covered, facility_location, farthest_first, nearest, similarities
from diorama.data.balance.weights import capped
from diorama.data.rehearse import rehearse
from diorama.data.splits import MEMBER, divide
from diorama.media import write_png
from tests.data.toy import Bright, Relative

LABELS = st.lists(st.none() | st.integers(0, 6), min_size=1, max_size=60)
VECTORS = pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32()))])


def views(labels, vectors=None, chosen=(), order=None) -> duckdb.DuckDBPyConnection:
    """A catalogue's views: clips i000, i001, ... with these labels, and the stages `clusters`, `embedding`."""
    con = duckdb.connect(config={"threads": 1})
    rows = [
        {"id": f"i{k:03d}", "location": f"/at/{k}", "label": label, "chosen": k in chosen,
         "caption": f"A cat, {'a' if k % 2 else 'the'} dog" if k else None}
        for k, label in enumerate(labels)
    ]  # fmt: skip
    rows = rows if order is None else [rows[k] for k in order]
    schema = pa.schema([("id", pa.string()), ("location", pa.string()), ("label", pa.int32()), ("chosen", pa.bool_()),
                        ("caption", pa.string())])  # fmt: skip
    con.register("left_over", pa.Table.from_pylist(rows, schema))
    clusters = [{"id": r["id"], "cluster": r["label"], "score": float(int(r["id"][1:])), "tags": ["x", "y", "x"]}
                for r in rows if r["label"] is not None]  # fmt: skip
    types = pa.schema([("id", pa.string()), ("cluster", pa.int64()), ("score", pa.float64()),
                       ("tags", pa.list_(pa.string()))])  # fmt: skip
    con.register("clusters", pa.Table.from_pylist(clusters, types))
    if vectors is not None:
        found = [{"id": f"i{k:03d}", "vector": v} for k, v in enumerate(vectors)]
        found = found if order is None else [found[k] for k in order]
        con.register("embedding", pa.Table.from_pylist(found, VECTORS))
    return con


def weights(balance, con) -> dict[str, float]:
    return dict(zip(*balance.weights(con).to_pydict().values(), strict=True))


def directions(n: int, d: int = 5, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(LABELS, st.floats(0, 1), st.floats(1, 20), st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_weights_have_mean_one_grow_with_rarity_and_know_no_order(labels, power, most, rng):
    balance = InverseFrequency("label", power, most)
    got = weights(balance, views(labels))
    assert len(got) == len(labels)
    np.testing.assert_allclose(np.mean(list(got.values())), 1, rtol=1e-9)
    assert max(got.values()) <= most
    counts = Counter(labels)
    of = {label: got[f"i{k:03d}"] for k, label in enumerate(labels)}
    assert all(got[f"i{k:03d}"] == of[label] for k, label in enumerate(labels))
    for a in counts:
        for b in counts:
            assert counts[a] < counts[b] or of[a] <= of[b] * (1 + 1e-12)
    order = rng.sample(range(len(labels)), len(labels))
    assert weights(balance, views(labels, order=order)) == got


def test_the_power_is_that_of_the_count():
    labels = [0] * 64 + [1] * 16 + [None] * 4
    got = weights(InverseFrequency("label", 0.5, most=100), views(labels))
    assert got["i070"] / got["i000"] == pytest.approx(2)
    assert got["i083"] / got["i000"] == pytest.approx(4)
    same = weights(InverseFrequency("clusters.cluster", 0.5, most=100), views(labels))
    assert same == got
    even = views(labels)
    table = distribution(even, "label", InverseFrequency("label", 1.0, most=100).weights(even))
    np.testing.assert_allclose(table["after"].to_numpy(), 1 / 3)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50), st.floats(1, 5))
def test_a_cap_is_kept_and_what_it_cuts_is_given_back(raw, most):
    got = capped(np.array(raw), most)
    np.testing.assert_allclose(got.mean(), 1, rtol=1e-9)
    assert got.max() <= most
    free = got < most * (1 - 1e-9)
    ratio = got[free] / np.array(raw)[free]
    np.testing.assert_allclose(ratio, ratio[:1].repeat(len(ratio)), rtol=1e-9)
    assert (got[~free, None] / np.array(raw)[~free, None] <= ratio * (1 + 1e-9)).all()


@given(LABELS, st.floats(1, 50))
@settings(max_examples=20)
def test_temperature_gives_shares_to_its_power(labels, temperature):
    con = views(labels)
    table = distribution(con, "label", Temperature("label", temperature, most=1e9).weights(con))
    share = table["before"].to_numpy() ** (1 / temperature)
    np.testing.assert_allclose(table["after"].to_numpy(), share / share.sum(), rtol=1e-8)
    assert table["before"].to_numpy().sum() == pytest.approx(1)
    assert dict(zip(table["value"].to_pylist(), table["clips"].to_pylist(), strict=True)) == {
        None if label is None else str(label): n for label, n in Counter(labels).items()
    }


def test_balances_multiply():
    labels = [0, 0, 0, 1]
    con = views(labels)
    assert combined(con, ())["weight"].to_pylist() == [1.0] * 4
    both = combined(con, (InverseFrequency("label"), InverseFrequency("clusters.cluster")))
    once = InverseFrequency("label", 1.0).weights(con)
    np.testing.assert_allclose(both["weight"].to_numpy(), once["weight"].to_numpy(), atol=1e-8)
    assert combined(views([]), (InverseFrequency("label"),)).num_rows == 0


def test_words_and_lists_count_for_each_clip_that_has_them():
    con = views([0, 1, 2, None])
    table = distribution(con, "words", combined(con, ())).to_pylist()
    assert {r["value"]: r["clips"] for r in table} == {"cat": 3, "a": 3, "dog": 3, "the": 1, None: 1}
    assert all(r["before"] == r["after"] == r["clips"] / 4 for r in table)
    tags = distribution(con, "clusters.tags", combined(con, ())).to_pylist()
    assert [(r["value"], r["clips"]) for r in tags] == [("x", 3), ("y", 3), (None, 1)]
    got = weights(InverseFrequency("words", 1.0, most=100), con)
    raw = np.array([1.0, 1 / 3, (1 + 1 / 3 + 1 / 3 + 1 / 3) / 4, 1 / 3])  # "a" is an article of "A cat", too
    np.testing.assert_allclose([got[f"i{k:03d}"] for k in range(4)], raw / raw.mean())


def test_what_was_left_out_counts_before_and_not_after():
    con = views([0, 0, 1, 1])
    con.execute("create view sound as select * from left_over")
    kept = pa.table({"id": ["i000", "i002", "i003"], "weight": [1.0, 1.0, 1.0]})
    table = distribution(con, "label", kept, clips="sound")
    assert table["before"].to_pylist() == [0.5, 0.5]
    np.testing.assert_allclose(table["after"].to_numpy(), [1 / 3, 2 / 3])


def test_effective_clips():
    assert effective(np.full(7, 3.0)) == pytest.approx(7)
    assert effective(np.array([5.0, 0, 0])) == pytest.approx(1)
    assert effective(np.array([1.0, 1, 2])) == pytest.approx(16 / 6)
    assert effective(np.zeros(3)) == 0


@given(LABELS, st.integers(1, 12), st.sets(st.integers(0, 59), max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_a_quota_is_exact_and_people_come_first(labels, most, chosen, rng):
    rule = Quota("label", most)
    gone = rule.verdicts(views(labels, chosen=chosen)).to_pylist()
    chosen = {k for k in chosen if k < len(labels)}
    out = {int(row["id"][1:]) for row in gone}
    assert not out & chosen
    for label, n in Counter(labels).items():
        held = [k for k, other in enumerate(labels) if other == label]
        asked = len(chosen & set(held))
        assert len(set(held) - out) == min(n, max(most, asked))
    for row in gone:
        k, partner = int(row["id"][1:]), int(row["partner"].split("/")[-1])
        assert labels[k] == labels[partner]
        assert partner not in out
        assert row["value"] > row["threshold"] == most
        assert row["metric"] == "rank by label"
    order = rng.sample(range(len(labels)), len(labels))
    assert rule.verdicts(views(labels, chosen=chosen, order=order)).to_pylist() == gone


def test_a_new_clip_takes_the_place_of_one_at_most():
    def kept(n: int) -> set[str]:
        return {f"i{k:03d}" for k in range(n)} - set(Quota("label", 10).verdicts(views([0] * n))["id"].to_pylist())

    some = [kept(n) for n in range(10, 30)]
    assert all(len(before - after) <= 1 for before, after in pairwise(some))
    assert all(len(ids) == 10 for ids in some)
    assert len(some[0] - some[-1]) > 1


def test_a_quota_by_hash_does_not_choose_the_test_set():
    n = 1000
    gone = set(Quota("label", n // 10).verdicts(views([0] * n))["id"].to_pylist())
    clips = [{"id": f"i{k:03d}", "group": None, "split": None} for k in range(n)]
    splits = divide(pa.Table.from_pylist(clips, MEMBER), shares={"test": 0.1}).to_pylist()
    split = dict(zip((c["id"] for c in clips), splits, strict=True))
    test = sum(split[c["id"]] == "test" for c in clips if c["id"] not in gone)
    assert 2 <= test <= 20  # of 100, with a mean of 10


def test_orders_choose_what_their_names_say():
    labels = [0] * 5 + [1] * 5 + [None] * 3
    con = views(labels)
    for order, kept in [(Highest("clusters.score"), {3, 4, 8, 9}), (Lowest("clusters.score"), {0, 1, 5, 6})]:
        out = {int(i[1:]) for i in Quota("label", 2, order=order).verdicts(con)["id"].to_pylist()}
        assert set(range(10)) - out == kept
        assert out - set(range(10)) == {12}  # without a score: by id
    vectors = [[1, 0], [1, 0.01], [0, 1], [0.9, 0.1], None] * 2 + [[1, 0], [1, 0], None]
    out = {int(i[1:]) for i in Quota("label", 2, order=Spread()).verdicts(views(labels, vectors))["id"].to_pylist()}
    assert 2 not in out
    assert 7 not in out
    assert {4, 9, 12} <= out
    first = views(labels, vectors, chosen={4})
    assert 4 not in {int(i[1:]) for i in Quota("label", 1, order=Spread()).verdicts(first)["id"].to_pylist()}


@given(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, None]), min_size=10, max_size=60), st.floats(0.1, 0.6))
@settings(max_examples=20)
def test_shares_are_kept_with_as_many_clips_as_can_be(labels, share):
    assume(labels.count(0) and labels.count(1))
    shares = {"0": share, "1": 0.3}
    rest = 1 - share - 0.3
    out = set(Quota("label", shares=shares).verdicts(views(labels))["id"].to_pylist())
    kept = Counter({0: "0", 1: "1"}.get(v, "") for k, v in enumerate(labels) if f"i{k:03d}" not in out)
    counts = {"0": labels.count(0), "1": labels.count(1), "": sum(v not in (0, 1) for v in labels)}
    whole = min(counts[v] / s for v, s in (shares | {"": rest}).items() if counts[v])
    for value, wanted in (shares | {"": rest}).items():
        assert kept[value] == (int(whole * wanted + 1e-9) if counts[value] else 0)


def test_shares_of_a_whole_leave_no_room_for_others():
    rows = Quota("label", shares={"0": 0.5, "1": 0.5}).verdicts(views([0, 0, 1, 2, None])).to_pylist()
    assert {row["id"]: row["partner"] is None for row in rows if row["id"] >= "i003"} == {"i003": True, "i004": True}
    assert len(rows) == 3
    with pytest.raises(UserError, match="no clip has label 7"):
        Quota("label", shares={"7": 0.5}).verdicts(views([0, 1]))


@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=40)
def test_farthest_first_is_within_twice_the_best_radius(n, count, seed):
    vectors = np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)
    apart = np.linalg.norm(vectors[:, None] - vectors, axis=-1)
    count = min(count, n)
    best = min(apart[:, list(some)].min(1).max() for some in combinations(range(n), count))
    order = farthest_first(vectors, count)
    assert len(set(order.tolist())) == count
    assert apart[:, order].min(1).max() <= 2 * best + 1e-3


@pytest.mark.parametrize("d", [2, 30])
@pytest.mark.parametrize("chosen", [(), (7, 3)])
def test_farthest_first_takes_the_farthest_each_time(d, chosen):
    vectors = np.random.default_rng(d).normal(size=(700, d)).astype(np.float32)
    order = farthest_first(vectors, 300, chosen)
    assert tuple(order[: len(chosen)]) == chosen
    near = ((vectors.astype(np.float64)[:, None] - vectors[order[:1]].astype(np.float64)) ** 2).sum(-1).min(1)
    for k in range(1, 300):
        if k >= len(chosen):
            assert near[order[k]] >= near.max() - 1e-4
        near = np.minimum(near, ((vectors.astype(np.float64) - vectors[order[k]]) ** 2).sum(-1))
    np.testing.assert_array_equal(farthest_first(vectors, 120, chosen), order[:120])


def test_farthest_first_ends_where_all_are_taken_or_alike():
    alike = np.ones((50, 3), np.float32)
    assert sorted(farthest_first(alike, 50).tolist()) == list(range(50))
    assert len(farthest_first(directions(3), 9)) == 3
    assert len(farthest_first(np.zeros((0, 3), np.float32), 4)) == 0


def test_the_nearest_is_found():
    vectors = directions(60)
    apart = np.linalg.norm(vectors[:, None] - vectors[[5, 9, 40]], axis=-1)
    partner, distance = nearest(vectors, np.array([5, 9, 40]))
    np.testing.assert_array_equal(partner, np.array([5, 9, 40])[apart.argmin(1)])
    np.testing.assert_allclose(distance, apart.min(1), atol=1e-3)


@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=40)
def test_facility_location_reaches_its_bound(n, count, seed):
    similar = similarities(directions(n, 3, seed))
    dense = similar.toarray()
    count = min(count, n)
    best = max(dense[:, list(some)].max(1).sum() for some in combinations(range(n), count))
    order = facility_location(similar, count)
    assert len(set(order.tolist())) == count
    assert covered(similar, order) == pytest.approx(dense[:, order].max(1).sum(), rel=1e-5)
    assert covered(similar, order) >= (1 - np.exp(-1)) * best - 1e-5


def test_lazy_choice_is_the_greedy_one():
    similar = similarities(directions(300, 8))
    dense = similar.toarray().astype(np.float64)
    np.testing.assert_allclose(dense, np.maximum(directions(300, 8) @ directions(300, 8).T, 0), atol=1e-3)
    best = dense[:, 11].copy()
    order = facility_location(similar, 80, [11])
    assert order[0] == 11
    for j in order[1:]:
        gains = np.maximum(dense - best[:, None], 0).sum(0)
        assert gains[j] >= gains.max() - 1e-3
        best = np.maximum(best, dense[:, j])


def test_the_graph_of_many_holds_the_nearest_only(monkeypatch):
    vectors = directions(300, 4)
    whole = similarities(vectors)
    monkeypatch.setattr("diorama.data.balance.coverage.ALL_PAIRS", 100)
    graph = similarities(vectors, 20)
    assert set(np.diff(graph.tocsr().indptr)) == {20}
    dense, sparse = whole.toarray(), graph.toarray()
    for row in range(300):
        held = np.flatnonzero(sparse[row])
        np.testing.assert_allclose(sparse[row, held], dense[row, held], atol=1e-3)
        assert dense[row, held].min() >= np.sort(dense[row])[-20] - 1e-3
    order = facility_location(graph, 60)
    assert covered(graph, order) <= covered(whole, order) + 1e-2
    assert covered(whole, order) >= 0.99 * covered(whole, facility_location(whole, 60))


@pytest.mark.parametrize("choice", [KCentre(), FacilityLocation()])
def test_a_choice_that_stands_for_all(choice):
    vectors = [*directions(40, 4), None, [0, 0, 0, 0], [float("nan")] * 4]
    rule = Diverse(10, choice=choice)
    gone = rule.verdicts(views([0] * 43, vectors, chosen={2, 41})).to_pylist()
    out = {int(row["id"][1:]) for row in gone}
    assert len(out) == 30
    assert not out & {2, 40, 41, 42}
    kept = sorted(set(range(40)) - out)
    apart = np.linalg.norm(directions(40, 4)[:, None] - directions(40, 4)[kept], axis=-1)
    for row in gone:
        k = int(row["id"][1:])
        assert row["partner"] == f"/at/{kept[apart[k].argmin()]}"
        assert row["value"] == pytest.approx(apart[k].min(), abs=1e-3)
        assert row["threshold"] == pytest.approx(apart.min(1).max(), abs=1e-3)
    order = np.random.default_rng(0).permutation(43)
    assert rule.verdicts(views([0] * 43, vectors, chosen={2, 41}, order=order)).to_pylist() == gone
    assert Diverse(40, choice=choice).verdicts(views([0] * 43, vectors)).num_rows == 0


def test_columns_that_are_not_there_are_named():
    con = views([0, 1], [[1.0], [1.0, 2.0]])
    with pytest.raises(UserError, match="did you mean label"):
        InverseFrequency("labels").weights(con)
    with pytest.raises(UserError, match="no stage of this curation is called 'cluster'"):
        InverseFrequency("cluster.cluster").weights(con)
    with pytest.raises(UserError, match=r"no clusters.clusters; did you mean cluster"):
        Quota("clusters.clusters", 1).verdicts(con)
    with pytest.raises(UserError, match="vectors of 2 lengths"):
        Diverse(1).verdicts(con)
    with pytest.raises(UserError, match=r"several values of clusters\.tags"):
        Quota("clusters.tags", 1).verdicts(con)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InverseFrequency("label", 1.5), "power"),
        (lambda: InverseFrequency("label", most=0.5), "average weight is 1"),
        (lambda: Temperature("label", 0.5), "temperature"),
        (lambda: Quota("label"), "either most= or shares="),
        (lambda: Quota("label", 3, {"0": 0.5}), "either most= or shares="),
        (lambda: Quota("label", 0), "one clip or more"),
        (lambda: Quota("label", shares={"0": 0.7, "1": 0.7}), "sum to 1"),
        (lambda: Diverse(0), "one clip or more"),
        (lambda: FacilityLocation(1), "2 neighbours"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_what_each_asks_for():
    assert InverseFrequency("words").reads == ("caption",)
    assert Temperature("clusters.cluster").reads == ("clusters.cluster",)
    assert Quota("label", 1).measures == ()
    best = Quota("clusters.cluster", 1, order=Highest("clusters.score"))
    assert best.measures == ("clusters.cluster", "clusters.score")
    assert Quota("label", 1, order=ByHash()).order == Quota("label", 1).order
    assert Diverse(3, "embedding.vector").measures == ("embedding.vector",)


def test_rules_work_in_a_curation_and_its_dry_run(tmp_path):
    folder = tmp_path / "greys"
    folder.mkdir()
    levels = [0, 2, 4, 6, 8, 250, 252, 254, 97]  # the last is their mean, so `Relative` sees three directions
    for k, level in enumerate(levels):
        write_png(folder / f"{k}.png", np.full((8, 8, 3), level, np.uint8))
        (folder / f"{k}.txt").write_text("dark" if level < 9 else "other")
    policy = Curation(
        stages=(Bright(),),
        derived=(Relative(),),
        rules=(Quota("caption", 4, order=Highest("bright.mean")), Diverse(3, "relative.vector")),
    )
    lines = list(rehearse([folder], tmp_path / "c", policy))
    assert lines[0] == "9 sound clips, of which 3 would be kept"
    assert any("over quota: 1 clips" in line for line in lines)
    assert any("relative.vector, threshold" in line for line in lines)
    curate([folder], tmp_path / "c", policy)
    kept = {int(Path(path).stem) for path in Catalogue(tmp_path / "c").clips()["location"].to_pylist()}
    assert len(kept) == 3
    assert 8 in kept
    assert len(kept & {5, 6, 7}) == len(kept & {1, 2, 3, 4}) == 1
    [quota] = Catalogue(tmp_path / "c").ask("select * from decisions where reason = 'over quota'").to_pylist()
    assert (quota["metric"], quota["value"], quota["threshold"]) == ("rank by caption", 5, 4)
    assert quota["location"].endswith("0.png")
    assert quota["partner"].endswith("1.png")
