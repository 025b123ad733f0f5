"""Every solver, also one that a file more brings, has its order on a mixture, or keeps the law."""

import numpy as np
import pytest

from diorama.evaluate.lab import bias, errors, orders
from diorama.process import EDM
from diorama.sample import Euler, Heun
from diorama.sample.solver import SOLVERS
from diorama.sample.solver.consistency import Consistency

SETTINGS = [setting for kind in SOLVERS for setting in kind.examples()]
DETERMINISTIC = [solver for solver in SETTINGS if not solver.stochastic]
STOCHASTIC = [solver for solver in SETTINGS if solver.stochastic]


@pytest.mark.parametrize("solver", DETERMINISTIC, ids=str)
def test_every_solver_reaches_its_order(solver):
    """The slope of log error over log steps, in double precision, within 0.3 of the nominal order: on steps even in
    logsnr or on steps even in sigma / alpha, whichever suits it."""
    found = orders.measure(solver, orders.STEPS, 8)
    assert min(abs(slope - solver.order) for slope in found["slopes"]) <= 0.3, found


@pytest.mark.parametrize("solver", STOCHASTIC, ids=str)
def test_every_stochastic_solver_nears_the_law(solver):
    """With six times as many steps the variance of samples is much nearer the truth, or as near as they can tell."""
    if isinstance(solver, Consistency):
        pytest.skip("it keeps the law for denoisers that map to the end of the ODE; those here predict a mean")
    (few, _), (many, width) = bias.measure(solver, EDM(), (12, 72), 32)["variance"]
    assert abs(many) <= max(0.45 * abs(few), 2 * width)


def test_the_least_error_of_a_table_is_that_of_its_solver():
    """The ring that stands for the reference table: Euler and Heun as peers measured them, within 12 %."""
    for solver, peer in ((Euler(), "k-diffusion Euler"), (Heun(), "k-diffusion Heun")):
        found, table = errors.measure(solver, EDM(), (10, 20, 64), 256), errors.REFERENCE[peer]
        np.testing.assert_allclose(found["errors"]["Karras"], [table[n] for n in (10, 20, 64)], rtol=0.12)
        assert found["evaluations"] == [solver.evaluations * n - (solver == Heun()) for n in (10, 20, 64)]
