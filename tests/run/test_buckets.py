import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diorama.core import UserError
from diorama.core.config import parse, to_text
from diorama.run import Bucket, aspect_buckets
from diorama.run.buckets import RATIOS


@given(st.integers(32, 512), st.sampled_from([8, 16]), st.lists(st.floats(0.3, 3.0), min_size=1, max_size=6))
def test_each_shape_has_one_bucket(side, multiple, ratios):
    buckets = aspect_buckets(side * side, (1, 9), ratios, multiple=multiple)
    for frames in (1, 9):
        own = [b for b in buckets if b.frames == frames]
        assert len(own) <= len(ratios)
        assert all(b.height % multiple == 0 and b.width % multiple == 0 for b in own)
        for ratio in (0.1, 0.5, 1.0, 2.0, 10.0, *ratios):
            taken = [b for b in own if b.aspects is None or b.aspects[0] < ratio <= b.aspects[1]]
            assert len(taken) == 1


def test_a_clip_goes_to_the_shape_nearest_to_its_own():
    buckets = aspect_buckets(256 * 256, ratios=RATIOS, multiple=16)
    assert [(b.height, b.width) for b in buckets] == [(336, 192), (288, 224), (256, 256), (224, 288), (192, 336)]
    rng = np.random.default_rng(0)
    for ratio in np.exp(rng.uniform(-1.5, 1.5, 200)):
        [taken] = [b for b in buckets if b.aspects[0] < ratio <= b.aspects[1]]
        nearest = min(buckets, key=lambda b: abs(math.log(b.width / b.height / ratio)))
        assert taken == nearest


def test_batches_cost_about_the_same():
    buckets = aspect_buckets(64 * 64, (1, 5, 9, 17), multiple=8, batch=34)
    cost = [b.batch * b.frames * b.height * b.width for b in buckets]
    assert max(cost) / min(cost) < 1.45
    assert {b.frames: b.batch for b in buckets} == {1: 34, 5: 7, 9: 4, 17: 2}


def test_one_shape_takes_all_and_text_goes_there_and_back():
    assert [b.aspects for b in aspect_buckets(32 * 32, ratios=(1.0, 1.01), multiple=16)] == [None]
    bucket = aspect_buckets(32 * 32, multiple=8)[0]
    assert parse(to_text(bucket), Bucket) == bucket
    last = aspect_buckets(32 * 32, multiple=8)[-1]
    assert parse(to_text(last), Bucket) == last


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="are too few for sides of at least 64"):
        aspect_buckets(32 * 32, multiple=64, ratios=(0.2,))
    with pytest.raises(UserError, match="above 0"):
        aspect_buckets(0)
