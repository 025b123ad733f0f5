"""Features of layers, on other grids."""

import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.net.features import at_grid, cosine, folded, layer, layers


def test_layers_of_either_network_by_number():
    blocks = jnp.arange(6.0).reshape(3, 1, 1, 1, 1, 2)
    np.testing.assert_array_equal(layer(layers({"blocks": blocks, "keys": 0}), 2), blocks[2])
    assert layer(layers({"levels": ["a", "b"]}), 1) == "b"
    for number in (-1, 3):
        with pytest.raises(UserError, match="layers 0 to 2"):
            layer(blocks, number)


def test_another_grid_keeps_planes_and_the_same_one_all():
    y, x = np.mgrid[:8, :8] / 8 + 1 / 16
    plane = jnp.asarray(np.stack([y, x, np.ones_like(x)], -1)[None, None], jnp.float32)
    half = np.asarray(at_grid(plane, (1, 1, 4, 4, 7)))
    inner = np.moveaxis(np.mgrid[:4, :4][:, 1:3, 1:3] / 4 + 1 / 8, 0, -1)
    np.testing.assert_allclose(half[0, 0, 1:3, 1:3, :2], inner, atol=1e-6)
    np.testing.assert_array_equal(at_grid(plane, plane.shape), plane)


def test_time_is_folded_as_codecs_do():
    f = jnp.arange(7.0).reshape(1, 7, 1, 1, 1)
    np.testing.assert_array_equal(folded(f, 4)[0, :, 0, 0, 0], [0, 2.5, (5 + 6 + 6 + 6) / 4])
    np.testing.assert_array_equal(folded(f, 1), f)
    np.testing.assert_array_equal(folded(f[:, :1], 4), f[:, :1])


def test_cosine():
    a, b = jnp.array([[3.0, 0], [1, 1], [0, 0]]), jnp.array([[2.0, 0], [1, -1], [1, 0]])
    np.testing.assert_allclose(cosine(a, b), [1, 0, 0], atol=1e-6)
