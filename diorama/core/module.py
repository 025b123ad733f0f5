"""Modules: frozen dataclasses of arrays that are JAX pytrees, and what can be done to a tree of parameters.

`equinox.Module` is used as the container and imported here alone. A module's fields are arrays, modules, or `static`
values; calling it is a pure function.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import equinox
import jax
import jax.numpy as jnp

from diorama.core.array import Array, Key

Module = equinox.Module
T = TypeVar("T")


def static(**kwargs: Any) -> Any:
    """A field that is part of the tree's structure (hashable, not traced): sizes, names, functions."""
    return equinox.field(static=True, **kwargs)


def _name(key: Any) -> str:
    return str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key))))


def paths(tree: Any) -> dict[str, Array]:
    """Every array of `tree` by its dotted path, such as `blocks.attention.qkv.weight`, in tree order."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {".".join(map(_name, path)): leaf for path, leaf in leaves}


def from_paths(like: T, arrays: dict[str, Any]) -> T:
    """The tree `like` with its leaves replaced by `arrays` (by path).

    Raises `ValueError` that names paths missing from or unknown to `like`, or whose shape differs.
    """
    want = paths(like)
    wrong = sorted(set(want) ^ set(arrays)) or [p for p in want if want[p].shape != arrays[p].shape]
    if wrong:
        raise ValueError(f"parameters do not fit the model: {', '.join(wrong[:4])}")
    leaves = [jnp.asarray(arrays[path], dtype=leaf.dtype) for path, leaf in want.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def count(tree: Any) -> int:
    """How many numbers the arrays of `tree` hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def cast(tree: T, dtype: Any) -> T:
    """`tree` with its floating-point arrays in `dtype`; integers and keys stay."""
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def dtype_of(tree: Any) -> jnp.dtype:
    """The number format of the floating-point arrays of `tree` (of the first of them)."""
    return next(x.dtype for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating))


@dataclass(frozen=True)
class Policy:
    """Number formats: parameters are kept in float32, the forward and backward pass computes in `compute`.

    Norms, softmax, losses, EMA and optimiser state stay float32 whatever the policy (the layers see to it).
    """

    compute: Literal["float32", "bfloat16"] = "float32"

    def enter(self, tree: T) -> T:
        """Parameters and inputs as the computation sees them."""
        return cast(tree, jnp.dtype(self.compute))


def stack(init: Callable[[Key], T], key: Key, n: int) -> T:
    """`n` modules of identical structure in one, every array with a leading axis of `n`; run them with `scan`."""
    return jax.vmap(init)(jax.random.split(key, n))


REMAT: dict[str, Callable[..., Any] | None] = {
    "full": None,  # keep block inputs only
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # keep matrix products
}


# Stacks this short are laid out one block after another: a loop copies what the backward pass keeps of every block
# into one array and out again, a quarter of a training step of the demo's transformer (docs/log.md).
UNROLLED = 8


def scan(blocks: Any, x: Any, call: Callable[[Any, Any], tuple[Any, Any]], remat: str = "none") -> tuple[Any, Any]:
    """Run stacked `blocks` over `x`: `call(block, x) -> (x, intermediate)`; deep stacks are compiled as one block.

    `remat` names what the backward pass keeps: "none" (all), "dots" (matrix products), "full" (block inputs only).
    Returns the last x and the intermediates stacked along a leading axis of depth.
    """

    def body(carry: Any, block: Any) -> tuple[Any, Any]:
        return call(block, carry)

    if remat != "none":
        body = jax.checkpoint(body, policy=REMAT[remat])
    depth = jax.tree.leaves(blocks)[0].shape[0]
    unrolled = depth <= UNROLLED and remat == "none"  # with remat, memory matters more than time
    return jax.lax.scan(body, x, blocks, unroll=depth if unrolled else 1)
