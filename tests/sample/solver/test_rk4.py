import pytest

from diorama.sample import grid
from diorama.sample.solver.rk4 import RK4
from tests.sample.solver.checks import THREE, slopes


@pytest.mark.parametrize("process", THREE, ids=lambda p: type(p).__name__)
def test_it_keeps_its_order_from_pure_noise_to_data(process, x64):
    """At both ends a step is even in tau as any other, and a lower order in the last costs nothing."""
    for slope, error in slopes(RK4(), process, lambda n: grid.Uniform()(process, n), (48, 96, 192)):
        assert slope == pytest.approx(4, abs=0.3)
        assert error < 1e-7
