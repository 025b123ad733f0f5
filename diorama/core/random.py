"""Randomness as a function of (seed, stream name, step, example id).

Nothing random is kept in any state: the same question gets the same number at any batch size, on any number of
devices, before or after a resume.
"""

import hashlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

from diorama.core.array import Shape


def stream(seed: int, name: str, step: int | Array = 0) -> Key[Array, ""]:
    """The key of the stream `name` at `step`. `step` may be traced."""
    word = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big")
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), word), step)


def per_example(key: Key[Array, ""], ids: UInt32[Array, "b"]) -> Key[Array, "b"]:
    """One key an example, from the example's id and not from its place in the batch."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)


def normal(key: Key[Array, ""], ids: UInt32[Array, "b"], shape: Shape) -> Float[Array, "b ..."]:
    """Standard normal noise of `shape` for each example id; float32 `(b, *shape)`."""
    return jax.vmap(lambda k: jax.random.normal(k, shape, jnp.float32))(per_example(key, ids))


def uniform(key: Key[Array, ""], ids: UInt32[Array, "b"], shape: Shape = ()) -> Float[Array, "b ..."]:
    """Uniform numbers in [0, 1) of `shape` for each example id; float32 `(b, *shape)`."""
    return jax.vmap(lambda k: jax.random.uniform(k, shape, jnp.float32))(per_example(key, ids))


def places(key: Key[Array, ""], ids: UInt32[Array, "b"]) -> Float[Array, "b"]:
    """Each example's place in its batch, 0, 1/b, ... (b-1)/b: a random order of the ids, however they lie in it."""
    return jnp.argsort(jnp.argsort(uniform(key, ids))) / len(ids)
