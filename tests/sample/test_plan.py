import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.sample import plan

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
