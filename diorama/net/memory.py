"""What a transformer that is causal in time keeps of frames that are done: their keys and values (a KV cache).

Memory is bounded: a few first frames, kept for good (attention sinks, Xiao et al. 2023, arXiv 2309.17453; LongLive,
arXiv 2509.22622), and the last ones of a window. Slot s holds the frame that lies s frames into the past as the network
sees it. While there is room, that is the frame's own number. Then the window moves on by what is new, its frames take
the places of older ones, and the first frames stay right before it: no distance is larger than those at which the
window was full, and no angle of the rotary positions grows with the length of a video (in float32 a score of unit
vectors is then off by 2e-5 at frame 10,000, and by 3e-7 at 100: benchmarks/rollout.py). So keys are kept as they were
before they were turned by their time, and are turned by that of their slot when they are asked: each is rounded once,
however long it stays.
"""

from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Int
from diorama.core.module import Module, static
from diorama.net.attention import rotary
from diorama.net.places import Places


class Memory(Module):
    """Past frames, as every layer knows them; given to a network by `Context.memory`.

    Every array begins with the batch, as those of conditions do. Frames are counted in tokens along time.

    keys, values: of each layer, by slot; keys not turned by their time. previous: the tokens of the last frame as they
    entered the network, zero if there is none, for networks that look at it (`TransformerConfig.previous`). frames: how
    many slots are full, the same for all examples; so the next frame has that number for the network. first: how many
    slots are those of first frames.
    """

    keys: Float[Array, "b depth m k e"]
    values: Float[Array, "b depth m k e"]
    previous: Float[Array, "b 1 h w d"]
    frames: Int[Array, "b"]
    first: int = static(default=0)

    @staticmethod
    def empty(found: dict[str, Any], slots: int, first: int = 0) -> "Memory":
        """Room for `slots` frames, `first` of them first ones, for what a network `found` (shapes do)."""
        entered, (depth, *_, heads, each) = found["entered"], found["keys"].shape
        b, _, h, w, d = entered.shape
        shape = (b, depth, slots * h * w, heads, each)
        keys, values = (jnp.zeros(shape, found[name].dtype) for name in ("keys", "values"))
        return Memory(keys, values, jnp.zeros((b, 1, h, w, d), entered.dtype), jnp.zeros(b, int), first)

    @property
    def places(self) -> Places:
        """Where the slots lie; those that are empty are of no clip."""
        h, w = self.previous.shape[2:4]
        places = Places.grid(self.keys.shape[2] // (h * w), h, w)
        return Places(places.position, jnp.where(places.position[..., 0] < self.frames[0], 0, -1))

    def turned(self) -> tuple[Float[Array, "depth b m k e"], Float[Array, "depth b m k e"]]:
        """Keys and values as attention takes them, layer by layer."""
        keys = rotary(self.keys, _times(self.places.position))
        return keys.swapaxes(0, 1), self.values.swapaxes(0, 1)

    def after(self, found: dict[str, Any]) -> "Memory":
        """With the frames that the network has just seen, from its intermediates; this memory was what it had of those
        before. Of more frames than the window holds, the last ones stay.
        """
        _, t, h, w, _ = found["entered"].shape
        slots = self.keys.shape[2] // (h * w)
        start = self.frames[0]
        moves = jnp.maximum(start + t - slots, 0)

        def with_new(old: Array, new: Array) -> Array:  # (b, depth, m, k, e) each
            longer = jnp.pad(old, ((0, 0), (0, 0), (0, t * h * w), (0, 0), (0, 0)))
            longer = jax.lax.dynamic_update_slice_in_dim(longer, new, start * h * w, axis=2)
            first, rest = longer[:, :, : self.first * h * w], longer[:, :, self.first * h * w :]
            size = (slots - self.first) * h * w
            return jnp.concatenate([first, jax.lax.dynamic_slice_in_dim(rest, moves * h * w, size, axis=2)], axis=2)

        keys, values = (found[name].swapaxes(0, 1) for name in ("keys", "values"))
        still = rotary(keys, -_times(Places.grid(t, h, w, start).position))
        return Memory(
            with_new(self.keys, still),
            with_new(self.values, values),
            found["entered"][:, -1:],
            jnp.minimum(self.frames + t, slots),
            self.first,
        )


def _times(position: Float[Array, "1 n 3"]) -> Float[Array, "1 n 3"]:
    """Positions without rows and columns."""
    return position * jnp.array([1.0, 0.0, 0.0])
