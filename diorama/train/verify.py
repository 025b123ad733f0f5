"""Is what lies on the disk what was in memory? A sum for every array, of its bits, the same on any layout.

The sum is over uint32 (modulo 2^32): each number's bits plus a multiple of its place in the array, mixed (the finaliser
of MurmurHash3, by Austin Appleby). Every step of mixing can be undone, so one changed number always changes the sum;
more of them, and numbers that changed places or are missing, do in all but about one of 2^32 cases. It is computed on
the devices, where the array lies in parts, and from what was read back, on the host.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from diorama.core.array import Array, UInt32

Sums = dict[str, int]


def sums(arrays: dict[str, Array]) -> Sums:
    """The sum of every array, by its name; one program for all arrays of the same shapes."""
    return {name: int(x) for name, x in zip(arrays, jax.device_get(_sums(list(arrays.values()))), strict=True)}


@jax.jit
def _sums(arrays: list[Array]) -> list[UInt32[Array, ""]]:
    return [_sum(x) for x in arrays]


def _sum(x: Array) -> UInt32[Array, ""]:
    if jnp.issubdtype(x.dtype, jnp.floating):
        x = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
    place, step = jnp.zeros(x.shape, jnp.uint32), 1
    for axis in reversed(range(x.ndim)):
        place = place + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(step % 2**32)
        step *= x.shape[axis]
    return jnp.sum(_mixed(x.astype(jnp.uint32), place), dtype=jnp.uint32)


def _mixed(bits: Any, places: Any) -> Any:
    """Numbers of which any bit depends on all bits of both (uint32, of JAX or numpy)."""
    x = bits + places * np.uint32(0x9E3779B9)  # 2^32 over the golden ratio: neighbours lie far apart
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def sum_of(x: np.ndarray) -> int:
    """The same of an array on the host."""
    bits = x if x.dtype.kind in "biu" else x.reshape(-1).view(f"u{x.dtype.itemsize}")
    places = np.arange(x.size, dtype=np.uint32)
    return int(np.sum(_mixed(bits.reshape(-1).astype(np.uint32), places), dtype=np.uint32))


def read_back(checkpoint: Path, wanted: dict[str, Sums]) -> str | None:
    """Read a checkpoint's arrays and compare their sums; this process its share of them. What differs, or None.

    wanted: by item. One item at a time lies in memory; what cannot be read raises as Orbax does.
    """
    process, processes = jax.process_index(), jax.process_count()
    for item, expected in wanted.items():
        mine: dict[str, Any] = dict.fromkeys(list(expected)[process::processes], 0)
        if not mine:
            continue
        host = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in mine}
        how = ocp.args.PyTreeRestore(item=mine, restore_args=host, partial_restore=True)
        found = ocp.PyTreeCheckpointHandler().restore(checkpoint / item, args=how)
        wrong = differing({name: sum_of(x) for name, x in found.items()}, expected)
        if wrong:
            return f"{item}: {wrong}"
    return None


def differing(found: Sums, expected: Sums) -> str | None:
    """Which arrays are not what they were, of those that are found and expected."""
    wrong = [name for name in found if name in expected and found[name] != expected[name]]
    return (
        f"'{wrong[0]}' is not what was saved" + (f" (and {len(wrong) - 1} more)" if wrong[1:] else "")
        if wrong
        else None
    )
