import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM
from diorama.sample import grid, plan

TAUS = np.asarray([1.0, 0.5, 0.2, 0.0])


def test_joint():
    np.testing.assert_array_equal(plan.joint(TAUS, 2), [[1, 1], [0.5, 0.5], [0.2, 0.2], [0, 0]])
    np.testing.assert_array_equal(plan.joint(TAUS, 3, given=1)[:, 0], 0)


def test_autoregressive():
    expected = [[1, 1], [0.5, 1], [0.2, 1], [0, 1], [0, 0.5], [0, 0.2], [0, 0]]
    np.testing.assert_array_equal(plan.autoregressive(TAUS, 2), expected)
    np.testing.assert_array_equal(plan.autoregressive(TAUS, 3, given=1), np.insert(expected, 0, 0, axis=1))
    chunks = plan.autoregressive(TAUS, 5, chunk=2)
    np.testing.assert_array_equal(chunks[:, 0], chunks[:, 1])
    assert chunks.shape == (3 * 3 + 1, 5)


def test_pyramid():
    expected = [[1, 1, 1], [0.5, 1, 1], [0.2, 0.5, 1], [0, 0.2, 0.5], [0, 0, 0.2], [0, 0, 0]]
    np.testing.assert_array_equal(plan.pyramid(TAUS, 3), expected)


@pytest.mark.parametrize("make", [plan.joint, plan.autoregressive, plan.pyramid])
@pytest.mark.parametrize("given", [0, 2])
def test_every_plan_ends_in_data_and_never_rises(make, given):
    matrix = make(TAUS, 6, given=given)
    assert (matrix[0, given:] == 1).all()
    assert (matrix[:, :given] == 0).all()
    assert (matrix[-1] == 0).all()
    assert (np.diff(matrix, axis=0) <= 0).all()


def test_nothing_to_make_is_an_error():
    with pytest.raises(UserError, match="2 frames with 2 given"):
        plan.joint(TAUS, 2, given=2)


def test_a_restart_goes_back_up():
    """Down to the time nearest to `low`, up to `high`, and again; in steps as far apart as the grid's are there."""
    found = plan.Restart(low=0.25, high=0.5, times=2, steps=2)(TAUS)
    np.testing.assert_allclose(found, [1, 0.5, 0.2, 0.5, 0.35, 0.2, 0.5, 0.35, 0.2, 0])
    found = plan.Restart(low=0.2, high=0.8, times=3, steps=3)(np.linspace(1, 0, 11))
    np.testing.assert_allclose(found[8:13], [0.2, 0.8, 0.6, 0.4, 0.2])
    assert (np.diff(found) > 0).sum() == 3
    karras = grid.Karras()(EDM(), 20)  # even in tau between 1 and its last but one time, so a restart is as well
    found = plan.Restart(low=karras[15], high=0.7, times=1, steps=4)(karras)
    np.testing.assert_allclose(found[16:21], np.linspace(0.7, karras[15], 5), rtol=1e-6)


def test_any_plan_can_restart():
    taus = plan.Restart(low=0.2, high=0.5, times=1, steps=1)(TAUS)
    np.testing.assert_array_equal(taus, [1, 0.5, 0.2, 0.5, 0.2, 0])
    np.testing.assert_array_equal(plan.joint(taus, 2)[:, 1], taus)
    np.testing.assert_array_equal(plan.autoregressive(taus, 2)[:6, 0], taus)
    np.testing.assert_array_equal(plan.pyramid(taus, 2)[1:, 1], taus)


def test_restarts_that_go_nowhere_are_refused():
    for wrong in ({"low": 0.5, "high": 0.5}, {"high": 1.5}, {"times": 0}, {"steps": 0}):
        with pytest.raises(UserError, match="low is below high"):
            plan.Restart(**wrong)
    with pytest.raises(UserError, match=r"no time of the grid of 3 steps is near 0\.45 and below 0\.5"):
        plan.Restart(low=0.45, high=0.5)(TAUS)


def test_chunks_of_nothing_and_frames_ahead_are_refused():
    with pytest.raises(UserError, match="chunk=0"):
        plan.autoregressive(TAUS, 2, chunk=0)
    with pytest.raises(UserError, match="lag=-1"):
        plan.pyramid(TAUS, 2, lag=-1)
