"""Where examples come from is read from what is said beside them, else from the bucket."""

import json

import numpy as np
import pytest

from diorama.data import ArraySource
from diorama.run import by_source
from tests.run.conftest import STILL, VIDEO


class Clips:
    """As many clips as there are sources, which `more` says of them."""

    def __init__(self, sources):
        self.sources = sources

    def __len__(self):
        return len(self.sources)

    def row(self, i):
        return {"more": self.sources[i] and json.dumps({"source": self.sources[i]})}


@pytest.fixture
def found(monkeypatch):
    def make(**sources):
        held = {VIDEO: sources["video"], STILL: sources["still"]}
        monkeypatch.setattr(by_source, "clips", lambda catalogue, bucket, split: Clips(held[bucket]))
        given = [(b, ArraySource({"id": np.arange(len(held[b]))}, np.ones(len(held[b])) * 2)) for b in held]
        names, out = by_source.with_sources(None, given)
        return names, [list(s.columns.get("source", [])) for _, s in out], out

    return make


def test_by_column_and_by_bucket(found):
    names, columns, out = found(video=["camera", "web", None], still=["web", "web"])
    assert names == ("9x32x32", "camera", "web")
    assert columns == [[1, 2, 0], [2, 2]]
    assert out[0][1].weights.tolist() == [2, 2, 2]
    assert found(video=[None], still=[None, None])[:2] == (("1x32x32", "9x32x32"), [[1], [0, 0]])


def test_one_source_is_no_news(found):
    assert found(video=["web"], still=["web"])[:2] == ((), [[], []])


def test_seldom_ones_are_one(found):
    names, columns, _ = found(video=[f"s{i:02}" for i in range(20)] * 2, still=["zz"])
    assert len(names) == by_source.MOST
    assert names[-1] == "other"
    assert columns[1] == [15]
    assert len(set(columns[0])) == 16
