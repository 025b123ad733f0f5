import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diorama.core import UserError
from diorama.data import ArraySource
from diorama.data.pack import PackedSource


def source(n: int, t: int, h: int, w: int, first: int = 0, weights=None) -> ArraySource:
    rng = np.random.default_rng(first)
    columns = {
        "media": rng.normal(size=(n, t, h, w, 2)).astype(np.float32),
        "id": np.arange(first, first + n, dtype=np.uint32),
        "label": np.arange(n, dtype=np.int32),
    }
    return ArraySource(columns, weights)


@settings(max_examples=20)
@given(st.integers(12, 40), st.integers(1, 9), st.integers(1, 9))
def test_every_clip_comes_once_a_plan_and_rows_hold_whole_clips(tokens, many, few):
    parts = [source(many, 1, 2, 3), source(few, 3, 2, 2, first=100)]
    packed = PackedSource(parts, tokens, plans=2)
    ids = []
    for i in range(len(packed)):
        row = packed[i]
        assert row["media"].shape == (tokens, 1, 1, 2)
        for s, clip in enumerate(row["clip"]):
            own = row["segment"] == s
            if not own.any():
                continue
            ids.append(int(clip))
            part = parts[int(clip >= 100)]
            k = int(clip) % 100
            whole = part[k]["media"]
            np.testing.assert_array_equal(row["media"][own].reshape(whole.shape), whole)
            at = tuple(row["position"][own].astype(int).T)
            np.testing.assert_array_equal(row["media"][own][:, 0, 0], whole[at])
            np.testing.assert_array_equal(row["index"][own], np.arange(own.sum()))
            assert row["label"][s] == k
            frames, counts = np.unique(row["frame"][own], return_counts=True)
            assert list(counts) == [whole[0, ..., 0].size] * len(whole)
            np.testing.assert_array_equal(np.flatnonzero(own)[:: counts[0]], row["first"][frames])
        assert not row["media"][row["segment"] < 0].any()
    assert sorted(ids) == sorted([*range(many), *range(100, 100 + few)] * 2)


def test_little_is_empty_and_the_same_seed_gives_the_same_rows():
    parts = [source(100, 1, 4, 4), source(40, 3, 4, 3, first=1000), source(60, 1, 3, 5, first=2000)]
    packed = PackedSource(parts, 128, seed=3)
    assert packed.filled > 0.9
    assert PackedSource(parts, 128, seed=3).rows == packed.rows
    assert PackedSource(parts, 128, seed=4).rows != packed.rows
    ids = [packed[i]["id"] for i in range(len(packed))]
    assert len(set(map(int, ids))) == len(ids)
    assert packed.rows[: len(packed) // 4] != packed.rows[len(packed) // 4 : len(packed) // 2]  # other company


def test_examples_come_as_often_as_they_weigh():
    weights = np.array([0.0, 0.5, 1.5, 2.0])
    packed = PackedSource([source(4, 1, 2, 2, weights=weights)], 8, plans=8)
    counts = np.bincount([k for row in packed.rows for _, k in row], minlength=4)
    np.testing.assert_allclose(counts / 8, weights, atol=0.13)


def test_a_clip_longer_than_a_row_is_refused():
    with pytest.raises(UserError, match="a clip of 12 latent cells does not fit in a row of 8"):
        PackedSource([source(2, 3, 2, 2)], 8)
