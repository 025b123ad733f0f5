"""Stochastic rounding: state in bfloat16 that loses nothing on average.

A number between two neighbours in bfloat16 goes up with the probability of its distance from the lower one, so that the
mean of what it becomes is the number itself (Gupta et al. 2015, arXiv 1502.02551; for training with Adam, Ozkara et al.
2025, arXiv 2502.20566). Rounded to nearest, an update of less than half of the last digit, 1/512 of the number at
least, is lost, and late in training all of them are.
"""

from math import prod
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key
from diorama.core.layout import Split
from diorama.core.module import paths
from diorama.core.random import stream

T = TypeVar("T")
SMALLEST = 1024  # numbers in an array, or one block's of a stack; smaller ones stay in float32, taking little memory


def narrow(tree: T, kind: str) -> T:
    """`tree` as it is kept: its large floating-point arrays in `kind`, rounded to nearest; all else as it was.

    A stack counts as one of its blocks: what is small there (gains, biases) is small here. Which axes are a block's
    own, modules say (`core.layout.Split`); of arrays whose module says nothing they are the last two.
    """
    axes = tree.axes if isinstance(tree, Split) else {}

    def inner(part: Any) -> bool:
        return part is not tree and isinstance(part, Split)

    def kept(path: Any, part: Any) -> Any:
        if inner(part):
            return narrow(part, kind)
        own = len(axes.get(path[0].name, "io")) if axes else 2
        large = prod(part.shape[max(part.ndim - own, 0) :]) >= SMALLEST
        return part.astype(kind) if large and jnp.issubdtype(part.dtype, jnp.floating) else part

    return jax.tree_util.tree_map_with_path(kept, tree, is_leaf=inner)


def keep(tree: T, like: T, seed: int, step: Array) -> T:
    """`tree` in the number formats of `like`: what is bfloat16 there is rounded stochastically, the rest stays.

    The random bits are a function of the seed, the step and the array's path.
    """
    formats = paths(like)
    leaves = [
        stochastic(x, stream(seed, f"round.{path}", step)) if x.dtype != formats[path].dtype else x
        for path, x in paths(tree).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def stochastic(x: Float[Array, "..."], key: Key[Array, ""]) -> Float[Array, "..."]:
    """x (float32) in bfloat16, up or down at random so that the mean is x; what is not finite stays so.

    bfloat16 is the upper half of float32: a random number that is added to the lower half carries over into the upper
    one as often as it should, whatever the sign, for floats are stored as sign and magnitude.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + jax.random.bits(key, x.shape, jnp.uint16)
    rounded = jax.lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), jnp.bfloat16)
    return jnp.where(jnp.isfinite(x), rounded, x.astype(jnp.bfloat16))
