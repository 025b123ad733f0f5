"""Places and frames of packs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.net.places import Frames


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_what_frames_have_goes_to_their_tokens_and_its_gradient_is_their_sum(kind):
    frames = Frames(jnp.array([[0] * 1024 + [1] * 3 + [0] * 5]), jnp.array([[0, 1024]]))
    x = jnp.arange(6.0).reshape(1, 2, 3).astype(kind)
    cotangent = jax.random.uniform(jax.random.key(0), (1, 1032, 3)).astype(kind)
    tokens, back = jax.vjp(frames.tokens, x)
    np.testing.assert_array_equal(tokens, x[:, frames.of[0]])
    np.testing.assert_array_equal(frames.each(tokens), x)
    own = np.asarray(frames.of[0])
    sums = [np.asarray(cotangent[0], np.float64)[own == frame].sum(0) for frame in range(2)]
    np.testing.assert_allclose(np.asarray(back(cotangent)[0][0], np.float64), sums, rtol=1e-2)
