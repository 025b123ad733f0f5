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
from diorama.core.layout import ambient

Module = equinox.Module
T = TypeVar("T")


def static(**kwargs: Any) -> Any:
    """A field that is part of the tree's structure (hashable, not traced): sizes, names, functions."""
    return equinox.field(static=True, **kwargs)


def _name(key: Any) -> str:
    return str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key))))


def paths(tree: Any) -> dict[str, Array]:
    """Every array of `tree` by its dotted path, such as `blocks.attention.out.weight`, in tree order."""
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
    """Number formats. Norms, softmax, losses, gradients and averages are float32 whatever the policy.

    Args:
        compute: of the forward and backward pass.
        state: of parameters and optimiser state between steps. "bfloat16" rounds them stochastically
            (`train/rounding.py`): with Adam and one average, 10 bytes a parameter and not 16. It pays where memory
            decides which layout or batch fits; the price is noise, for a weight moves by 1/256 of itself or more, or
            not at all, and time to draw the random bits.
    """

    compute: Literal["float32", "bfloat16"] = "float32"
    state: Literal["float32", "bfloat16"] = "float32"

    def enter(self, tree: T) -> T:
        """Parameters and inputs as the computation sees them."""
        return cast(tree, jnp.dtype(self.compute))


def stack(init: Callable[[Key], T], key: Key, n: int) -> T:
    """`n` modules of identical structure in one, every array with a leading axis of `n`; run them with `scan`."""
    return jax.vmap(init)(jax.random.split(key, n))


Remat = Literal["none", "dots", "attention", "full"]
"""What the backward pass keeps of a block, and does not compute again: all, products and convolutions, what attention
gave, or its inputs only (which all keep)."""


def _products(primitive: Any, *given: Any, **how: Any) -> bool:
    dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    return primitive is jax.lax.conv_general_dilated_p or bool(dots(primitive, *given, **how))


REMAT: dict[str, Callable[..., Any] | None] = {
    "dots": _products,
    "attention": jax.checkpoint_policies.save_only_these_names("attention"),
    "full": None,
}


def remat(call: Callable[..., Any], name: Remat) -> Callable[..., Any]:
    """`call` with a backward pass that keeps what `name` says; weights that are gathered over `fsdp` in no case."""
    if name != "none":
        return jax.checkpoint(call, policy=REMAT[name])
    return jax.checkpoint(call, policy=_ungathered) if ambient().get("fsdp", 1) > 1 else call


def _ungathered(primitive: Any, *_: Any, **__: Any) -> bool:
    """Whether a value is not laid out by `whole` or `place`: to have it again costs the gathering alone."""
    return primitive.name != "sharding_constraint"


# Stacks this short are laid out one block after another: a loop copies what the backward pass keeps of every block
# into one array and out again, a quarter of a training step of the demo's transformer and a tenth of one of size S
# (docs/log.md).
UNROLLED = 12


def scan(blocks: Any, x: Any, call: Callable[[Any, Any], tuple[Any, Any]], keep: Remat = "none") -> tuple[Any, Any]:
    """Run stacked `blocks` over `x`: `call(block, x) -> (x, intermediate)`; deep stacks are compiled as one block.

    `keep` names what the backward pass keeps, as of `remat`. Over `fsdp` one block at a time is whole.
    Returns the last x and the intermediates stacked along a leading axis of depth.
    """

    def body(carry: Any, block: Any) -> tuple[Any, Any]:
        return call(block, carry)

    depth = jax.tree.leaves(blocks)[0].shape[0]
    # with remat or gathered weights, memory matters more than time
    unrolled = depth <= UNROLLED and keep == "none" and ambient().get("fsdp", 1) == 1
    return jax.lax.scan(remat(body, keep), x, blocks, unroll=depth if unrolled else 1)
