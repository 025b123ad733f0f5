"""Features `(b, t, h, w, d)`: of one layer of a network, and those of an encoder at its places."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float
from diorama.core.errors import UserError


def layers(intermediates: dict[str, Any]) -> Sequence[Float[Array, "b t h w d"]]:
    """The features of every block of a transformer, or of every level of a U-Net on its way down, from `Output`."""
    return intermediates["blocks"] if "blocks" in intermediates else intermediates["levels"]


def layer(found: Sequence[Any], number: int) -> Any:
    """One of `layers`, from 0. Raises `UserError` where there is none of that number: JAX would take the last."""
    if not 0 <= number < len(found):
        raise UserError(f"layer={number}: the network has layers 0 to {len(found) - 1}")
    return found[number]


def at_grid(features: Float[Array, "b t h w d"], shape: Sequence[int]) -> Float[Array, "b t2 h2 w2 d"]:
    """Features at the places of another grid, `shape` (b, t2, h2, w2, ...), by linear interpolation; float32."""
    f, (t, h, w) = features.astype(jnp.float32), shape[1:4]
    return f if f.shape[1:4] == (t, h, w) else jax.image.resize(f, (len(f), t, h, w, f.shape[-1]), "linear")


def folded(features: Float[Array, "b t h w d"], frames: int) -> Float[Array, "b t2 h w d"]:
    """The first of t frames and the means over the `frames` each that follow it, as codecs fold time; the last frame is
    repeated to whole ones."""
    b, t, *rest = features.shape
    f = features.astype(jnp.float32)
    later = (
        jnp.pad(f[:, 1:], ((0, 0), (0, -(t - 1) % frames), (0, 0), (0, 0), (0, 0)), mode="edge") if t > 1 else f[:, 1:]
    )
    return jnp.concatenate([f[:, :1], later.reshape(b, later.shape[1] // frames, frames, *rest).mean(2)], axis=1)


def cosine(a: Float[Array, "... d"], b: Float[Array, "... d"]) -> Float[Array, "..."]:
    """The cosine of the angle between vectors, in float32; 0 where one has no length."""
    return (_unit(a) * _unit(b)).sum(-1)


def _unit(x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)
