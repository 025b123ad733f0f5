"""The networks that benchmarks compare are the same; nothing is timed."""

import pytest

pytest.importorskip("torch")

from benchmarks.demo import Demo
from benchmarks.versus_torch import Pair


@pytest.mark.parametrize("number", [0, 1])
def test_torch_denoiser_is_ours(number: int) -> None:
    demo = Demo()
    pair = Pair(demo, demo.stage.buckets[number])
    assert max(pair.differences().values()) < 1e-4
