"""Attention over devices: `tests/sharded/test_nets.py` has the devices; here are the order of tokens and the limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, use_abstract_mesh

from diorama.core import UserError
from diorama.core.layout import AXES
from diorama.net.parallel import by_token, flat, from_rows, places_of_rows, to_rows, unflat
from diorama.net.places import Places

X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 2, 6, 2)), jnp.float32)
GRID = X.shape[1:4]


def mesh(sequence: int) -> use_abstract_mesh:
    return use_abstract_mesh(AbstractMesh((1, 1, sequence, 1), AXES, (AxisType.Auto,) * len(AXES)))


def test_without_a_mesh_rows_are_a_reshape():
    np.testing.assert_array_equal(to_rows(X), X.reshape(2, 24, 6, 2))
    np.testing.assert_array_equal(from_rows(to_rows(X), GRID), X)
    places = Places.grid(*GRID)
    assert places_of_rows(places, GRID, 6) is places


@pytest.mark.parametrize("sequence", [2, 3, 4])  # rows, frames, rows
def test_a_devices_tokens_lie_together(sequence):
    with mesh(sequence):
        row, back = flat(X), unflat(flat(X), GRID)
        where = places_of_rows(Places.grid(*GRID), GRID, heads=5).position  # which 2, 3 and 4 do not divide
    np.testing.assert_array_equal(back, X)
    first = np.asarray(where)[0, : 24 // sequence]
    axis = 0 if sequence == 3 else 1
    assert first[:, axis].max() < GRID[axis] // sequence
    t, h, w = np.asarray(where[0], int).T
    np.testing.assert_array_equal(row, X[:, t, h, w])


def test_clips_that_do_not_split_are_refused():
    with mesh(5), pytest.raises(UserError, match=r"layout\.sequence is 5 and divides neither"):
        jax.eval_shape(by_token, X)
