import jax
import pytest

from diorama.core import UserError
from diorama.core.module import count
from diorama.net import TransformerConfig
from diorama.net.places import Reach
from diorama.net.sizes import SIZES, sized

PLAIN = TransformerConfig(mixing=False, previous=False)


def parameters(config: TransformerConfig) -> int:
    return count(jax.eval_shape(lambda: config.init(jax.random.key(0), 4)))


def test_sizes_grow_and_are_near_what_they_are_called_after():
    sizes = [parameters(sized(PLAIN, size)) for size in SIZES]
    assert sizes == sorted(sizes)
    # DiT without its cross-attention: S 33 M, B 130 M, L 458 M, XL 675 M (table 1)
    for size, want in {"S": 33e6, "B": 130e6, "L": 458e6, "XL": 675e6}.items():
        width, depth = SIZES[size].width, SIZES[size].depth
        cross = depth * 4 * width**2
        assert parameters(sized(PLAIN, size)) - cross == pytest.approx(want, rel=0.03)
    shared = TransformerConfig(mixing=False, previous=False, modulation="shared")
    assert parameters(sized(shared, "XXL")) == pytest.approx(1.15e9, rel=0.02)
    assert parameters(sized(shared, "G")) == pytest.approx(17.0e9, rel=0.02)


def test_all_else_stays():
    net = TransformerConfig(reach=(Reach(future=0),), registers=2, text="joint")
    assert sized(net, "XS").reach == net.reach
    assert sized(net, "XS").registers == 2


def test_a_size_that_is_not_there_is_named():
    with pytest.raises(UserError, match="there is no size 'M': choose one of XS, S, B"):
        sized(PLAIN, "M")
