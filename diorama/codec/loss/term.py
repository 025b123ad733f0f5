"""What a term of the codec's loss is: it sees a batch on its way through the codec and gives one number.

A term is a `Module`, so that the arrays of a network that it holds reach the compiled step as arguments; its numbers
are static, so that it is its own configuration. What must be read from files first, `init` reads.
"""

from dataclasses import KW_ONLY
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key, Latents, Media, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module, dtype_of, static
from diorama.net.layers import Linear


class Coded(Module):
    """A batch on its way through a codec.

    media: what was put in, float32 `(b, t, h, w, c)` in [-1, 1], filled up to whole cells.
    latents: as training sees them. again: what was decoded from them, float32, not clipped.
    ids: of the examples. model: the autoencoder. projection: of latents to the features they are aligned to, if any.
    """

    media: Media
    latents: Latents
    again: Media
    ids: UInt32[Array, "b"]
    model: Any
    projection: Linear | None = None

    def decode(self, latents: Latents) -> Media:
        """Other latents, decoded by the same model; float32."""
        return self.model.decode(latents.astype(dtype_of(self.model))).astype(jnp.float32)


class Term(Module):
    """One part of a codec's loss.

    weight: what its value is multiplied by. The log shows it unweighted, by `name`.
    """

    _: KW_ONLY
    weight: float = static(default=1.0)

    @property
    def name(self) -> str:
        """What the log calls it; the terms of one loss have different names."""
        return type(self).__name__.lower()

    def init(self, own: Path | None = None) -> "Term":
        """This term with what it needs from files. `own` is the perceptual network fitted to the run's own data."""
        return self

    def __call__(self, coded: Coded, key: Key[Array, ""]) -> Float[Array, ""]:
        """The unweighted value, a float32 scalar. `key` is the step's: the same for every part of a batch."""
        raise NotImplementedError


class Comparison(Term):
    """A term that compares decoded media with the original, and nothing else."""

    def compare(self, again: Media, media: Media) -> Float[Array, ""]:
        """The mean over examples, frames and positions; both float32."""
        raise NotImplementedError

    def __call__(self, coded: Coded, key: Key[Array, ""]) -> Float[Array, ""]:
        return self.compare(coded.again, coded.media)


def rgb(media: Float[Array, "... c"]) -> Float[Array, "... 3"]:
    """Media of 1 to 4 channels as three: grey is repeated, and what alpha (the last of 2 or 4) hides becomes white.

    Raises `UserError` for more channels: a network that was trained on colour pictures cannot judge those.
    """
    channels = media.shape[-1]
    if channels > 4:
        raise UserError(f"a perceptual network of colour pictures cannot see media of {channels} channels")
    if channels in (2, 4):
        opacity = jnp.clip((media[..., -1:] + 1) / 2, 0, 1)
        media = 1 + opacity * (media[..., :-1] - 1)
    return jnp.broadcast_to(media, (*media.shape[:-1], 3))


def unit(features: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """Features of length 1 at every position. The small number lies inside the root: where nothing is seen (all zero),
    the gradient is finite."""
    return features * jax.lax.rsqrt(jnp.sum(jnp.square(features), axis=-1, keepdims=True) + 1e-10)
