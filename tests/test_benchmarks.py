"""The networks that benchmarks compare are the same; nothing is timed."""

import pytest

pytest.importorskip("torch")

from benchmarks.demo import Demo
from benchmarks.versus_torch import Pair
from diorama.net import TransformerConfig


@pytest.mark.parametrize("net", [None, TransformerConfig(depth=2)], ids=["unet", "transformer"])
@pytest.mark.parametrize("number", [0, 1])
def test_torch_denoiser_is_ours(net: TransformerConfig | None, number: int) -> None:
    demo = Demo(net)
    pair = Pair(demo, demo.stage.buckets[number])
    assert max(pair.differences().values()) < 1e-4
