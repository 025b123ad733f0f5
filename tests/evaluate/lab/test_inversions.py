import pytest

from diorama.evaluate.lab import inversions
from diorama.process import EDM
from diorama.sample import Heun
from diorama.sample.invert import FixedPoint, Reversible


@pytest.mark.parametrize(
    "way", [FixedPoint(Heun(), tolerance=1e-13), Reversible(Heun())], ids=lambda w: type(w).__name__
)
def test_exact_inversions_come_back(way):
    assert inversions.measure(way, EDM(), (20,), 8)["errors"][0] <= 1e-10


def test_likelihoods_are_those_of_the_mixture():
    coarse, fine = inversions.densities(EDM(), (32, 128), 8)["errors"]
    assert fine <= 5e-6
    assert coarse / fine > 4**3.5
