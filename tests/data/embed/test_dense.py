"""Features of places by frozen encoders: what they are beside the vectors of whole pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.data.embed.dense import OwnPlaces, Places, PretrainedPlaces
from diorama.data.embed.patches import Encoder
from diorama.data.embed.pretrained import load_vision
from tests.data.embed.published import PATCH, SIDE, WIDTH, pictures, write


@pytest.fixture(scope="module")
def own():
    rng = np.random.default_rng(0)
    filters, mean, projection = rng.normal(size=(108, 4)), rng.normal(size=32), rng.normal(size=(32, 3))
    return Encoder(*(jnp.asarray(x, jnp.float32) for x in (filters, mean, projection)))


def test_a_picture_that_is_one_patch_everywhere_has_its_vector_everywhere(own):
    """With a period of two pixels, every second patch is the same."""
    tile = np.random.default_rng(1).uniform(size=(2, 2, 2, 3))
    repeated = jnp.asarray(np.tile(tile, (1, 8, 8, 1)), jnp.float32)
    vectors = np.asarray(own(repeated))
    places = np.asarray(own.places(repeated))
    assert places.shape == (2, 6, 6, 3)
    np.testing.assert_allclose(places, vectors[:, None, None] + 0 * places, rtol=1e-4, atol=1e-4)


def test_features_move_with_what_they_are_of(own):
    x = jax.random.uniform(jax.random.key(0), (1, 20, 20, 3))
    np.testing.assert_allclose(own.places(x[:, 2:, 4:]), own.places(x)[:, 1:, 2:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["clip", "dinov2_with_registers"])
def test_a_published_encoders_features_are_of_its_patches(kind, tmp_path):
    folder = write(tmp_path, kind)
    network, x = load_vision(folder, SIDE), jnp.asarray(pictures(SIDE))
    places = np.asarray(network.places(x))
    assert places.shape == (3, SIDE // PATCH, SIDE // PATCH, WIDTH)
    vector = network._tokens(x)[:, 0]  # the class token's place is none of them
    assert np.abs(places - np.asarray(vector)[:, None, None]).min(-1).max() > 0
    seen, name = PretrainedPlaces(str(folder)).made(tmp_path, pytest.fail)
    media = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 3, SIDE, SIDE, 3)), jnp.float32)
    mean, std = np.array(seen.mean), np.array(seen.std)
    want = network.places(((media.reshape(-1, SIDE, SIDE, 3) + 1) / 2 - mean) / std)
    np.testing.assert_allclose(seen(media).reshape(want.shape), want, atol=1e-5)
    assert seen(media[:, :, :8, :12]).shape == (2, 3, SIDE // PATCH, SIDE // PATCH, WIDTH)  # of any size
    other = PretrainedPlaces(str(folder), side=2 * SIDE).made(tmp_path, pytest.fail)
    assert other[1] != name
    assert other[0].side == 2 * SIDE


def test_an_own_encoder_is_fitted_once(tmp_path):
    how, path = OwnPlaces(side=10, filters=4, width=3), tmp_path / "f.safetensors"
    with pytest.raises(UserError, match="too few"):
        how.made(path, lambda n: np.zeros((8, 12, 12, 3), np.uint8))
    frames = np.random.default_rng(0).integers(0, 256, (64, 12, 12, 3), np.uint8)
    seen, name = how.made(path, lambda n: frames[:n])
    again, same = how.made(path, pytest.fail)
    assert isinstance(seen, Places)
    assert name == same
    jax.tree.map(np.testing.assert_array_equal, seen, again)
    assert seen(jnp.zeros((2, 3, 12, 12, 3))).shape == (2, 3, 3, 3, 3)
