"""Array types, and the letters that name axes everywhere in Diorama.

    b batch   t frames   h w space   c channels   n tokens   d width   k heads   l text length

Media and latents are always `(b, t, h, w, c)`; an image has t = 1. Axes are indexed from the right, so that a
missing batch axis never shifts a meaning.
"""

from jaxtyping import Array, Bool, Float, Int, Key, UInt32

Shape = tuple[int, ...]
Media = Float[Array, "b t h w c"]  # in [-1, 1]
Latents = Float[Array, "b t h w c"]  # about zero mean and unit variance a channel
NoiseTime = Float[Array, "b"] | Float[Array, "b t"] | Float[Array, "b t h w 1"]  # tau in [0, 1]; 0 is data

__all__ = ["Array", "Bool", "Float", "Int", "Key", "Latents", "Media", "NoiseTime", "Shape", "UInt32"]
