from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.net.attention import rotary
from diorama.net.memory import Memory
from diorama.net.places import Places

B, DEPTH, H, W, D, HEADS = 2, 3, 1, 2, 12, 2
RAW = np.random.default_rng(0).normal(size=(DEPTH, B, 99, H * W, HEADS, D // HEADS)).astype(np.float32)


@partial(jax.jit, static_argnames="count")
def found(first: int, count: int, at: int) -> dict:
    """What a network finds of frames whose number is `first` in the video and `at` for itself."""
    keys = jax.lax.dynamic_slice_in_dim(RAW, first, count, axis=2).reshape(DEPTH, B, count * H * W, HEADS, -1)
    turned = rotary(keys, Places.grid(count, H, W, at).position[None])
    entered = jnp.broadcast_to(1.0 * (first + jnp.arange(count))[:, None, None, None], (B, count, H, W, D))
    return {"keys": turned, "values": keys, "entered": entered}


def filled(slots: int, first: int, chunk: int, frames: int) -> Memory:
    memory = Memory.empty(found(0, chunk, 0), slots, first)
    after = jax.jit(Memory.after)
    for n in range(0, frames, chunk):
        memory = after(memory, found(n, chunk, memory.frames[0]))
    return memory


@pytest.mark.parametrize(
    ("slots", "first", "chunk", "frames", "held"),
    [
        (6, 0, 2, 4, [0, 1, 2, 3]),
        (6, 0, 2, 10, [4, 5, 6, 7, 8, 9]),
        (6, 2, 2, 10, [0, 1, 6, 7, 8, 9]),
        (5, 1, 2, 8, [0, 4, 5, 6, 7]),
        (5, 2, 3, 99, [0, 1, 96, 97, 98]),
        (4, 0, 1, 90, [86, 87, 88, 89]),
        (3, 0, 5, 10, [7, 8, 9]),
        (4, 2, 3, 3, [0, 1, 2]),
        (3, 1, 4, 12, [0, 10, 11]),
    ],
)
def test_slots_hold_the_first_and_the_last_frames_where_they_lie(slots, first, chunk, frames, held):
    """Turned to the place of their slot, however often the window has moved."""
    memory = filled(slots, first, chunk, frames)
    keys, values = memory.turned()
    raw = jnp.asarray(RAW[:, :, held].reshape(DEPTH, B, -1, HEADS, D // HEADS))
    n = raw.shape[2]
    np.testing.assert_array_equal(values[:, :, :n], raw)
    where = Places.grid(len(held), H, W).position[None]
    np.testing.assert_allclose(keys[:, :, :n], rotary(raw, where), atol=1e-6)
    np.testing.assert_array_equal(
        memory.places.segment[0], np.repeat(np.where(np.arange(slots) < len(held), 0, -1), H * W)
    )
    np.testing.assert_array_equal(memory.places.position, Places.grid(slots, H, W).position)
    np.testing.assert_array_equal(memory.frames, [len(held)] * B)
    np.testing.assert_array_equal(memory.previous, np.full((B, 1, H, W, D), frames - 1))
