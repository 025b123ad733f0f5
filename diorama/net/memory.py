"""What a transformer that is causal in time keeps of frames that are done: their keys and values (a KV cache)."""

from diorama.core.array import Array, Float, Int
from diorama.core.module import Module
from diorama.net.places import Places


class Memory(Module):
    """Past frames, as every layer knows them; given to a network by `Context.memory`.

    keys, values: of each layer, rotated to where they lie. places: whole frames, in any order; slots that are empty have
    the segment -1. frames: how many frames came before the next one. previous: the tokens of the last of them as they
    entered the network, zero if there is none; for networks that look at it (`TransformerConfig.previous`).
    """

    keys: Float[Array, "depth b m k e"]
    values: Float[Array, "depth b m k e"]
    places: Places
    frames: Int[Array, ""]
    previous: Float[Array, "b 1 h w d"]
