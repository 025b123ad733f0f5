from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, CosineVP, RectifiedFlow
from diorama.sample.solver.adaptive import Adaptive
from tests.sample.solver.checks import STARTS, THREE, both, ends


def walk(solver, process, x, high=1.0, low=0.0):
    """One step of the plan, and how often it asked."""

    @jax.jit
    def run(x):
        ends = (jnp.broadcast_to(jnp.asarray(end, x.dtype), x.shape[:2]) for end in (high, low))
        return solver.step(both(process), process, x, *ends, None, solver.start(x))

    return run(x)


@cache
def found(process, tolerance):
    """Error of each example, and evaluations, from pure noise to data."""
    x, exact = ends(process, 1.0, 0.0)
    y, asked = walk(Adaptive(tolerance, limit=400), process, x)
    return np.abs(y - exact).max((1, 2, 3, 4)), np.asarray(asked)[:, 0]


@pytest.mark.parametrize("process", THREE, ids=lambda p: type(p).__name__)
def test_the_error_falls_with_the_tolerance(process, x64):
    """As the parts' errors are below the tolerance, so is the whole; a digit more costs 10^(1/3) times as much."""
    errors, asked = zip(*(found(process, t) for t in (1e-2, 1e-4, 1e-6)), strict=True)
    for tolerance, error, calls in zip((1e-2, 1e-4, 1e-6), errors, asked, strict=True):
        assert error.max() < 5 * tolerance
        assert (calls % 3 == 0).all()
    assert 2 < asked[2].mean() / asked[1].mean() < 10 ** (2 / 3) + 0.5
    assert asked[0].mean() < 45


def test_it_is_the_same_for_every_process(x64):
    """Along the straight line all are one, but for where they begin: the same parts, the same clips."""
    a, b = found(RectifiedFlow(), 1e-4), found(CosineVP(), 1e-4)
    np.testing.assert_allclose(a[0], b[0], rtol=1e-3)
    np.testing.assert_array_equal(a[1], b[1])


def test_an_example_has_parts_of_its_own():
    """Alone, and beside one that needs many more: bit for bit."""
    x = jnp.asarray(STARTS, jnp.float32)
    solver = Adaptive(1e-3)
    whole, asked = walk(solver, RectifiedFlow(), x)
    assert len(np.unique(asked)) > 1
    for i in range(3):
        alone, own = walk(solver, RectifiedFlow(), x[i : i + 1])
        np.testing.assert_array_equal(alone[0], whole[i])
        assert own[0, 0] == asked[i, 0]


def test_parts_are_bounded(x64):
    """What is left at the limit is one part: the step ends where it should, and the carry tells."""
    x = jnp.asarray(STARTS) * 80
    y, asked = walk(Adaptive(1e-9, limit=5), EDM(), x)
    np.testing.assert_array_equal(asked, 15)
    assert np.isfinite(y).all()
    y, asked = walk(Adaptive(1e-9, limit=1), EDM(), x)
    np.testing.assert_array_equal(asked, 3)


def test_frames_that_wait_are_left_alone_and_do_not_dilute_the_error(x64):
    """Frame 1 goes from 0.8 to data while frame 0 waits, and the other way round."""
    process = RectifiedFlow()
    x, truth = ends(process, 0.8, 0.0)
    for mover in (0, 1):
        low = np.full(2, 0.8)
        low[mover] = 0.0
        y, _ = walk(Adaptive(1e-5), process, x, 0.8, low)
        np.testing.assert_allclose(y[:, 1 - mover], x[:, 1 - mover], rtol=1e-12)
        np.testing.assert_allclose(y[:, mover], truth[:, mover], atol=5e-5)


def test_no_tolerance_at_all_is_refused():
    with pytest.raises(UserError, match="tolerance=0"):
        Adaptive(0.0)
