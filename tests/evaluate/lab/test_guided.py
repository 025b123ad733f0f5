"""Guidance truths: variances at guidance 2, 3 and 5 (arXiv 2408.09000)."""

import numpy as np
import pytest

from diorama.evaluate.lab import guided
from diorama.sample import Heun
from diorama.sample.guidance import GUIDANCES, ClassifierFree


def test_the_ode_has_its_variance_within_one_percent():
    found = guided.by_solver(Heun(), 160, ClassifierFree(), 16, "ode")
    np.testing.assert_allclose(found["variance"], found["truths"]["ode"], rtol=0.01)


def test_every_rule_has_a_row():
    names = [row.name for row in guided.rows(True, guided.PROCESS, ())]
    for kind in GUIDANCES:
        assert any(name.startswith(kind.__name__) for name in names)


@pytest.mark.parametrize("kind", GUIDANCES, ids=lambda kind: kind.__name__)
def test_every_rule_can_be_judged(kind):
    found = guided.by_solver(Heun(), 6, kind(), 2, "ode")
    assert np.isfinite(found["variance"]).all()
