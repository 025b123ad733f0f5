"""Two random views of a picture: what a self-supervised encoder must find to be the same.

Crops and colours are those of SimCLR (Chen et al. 2020, "A simple framework for contrastive learning of visual
representations", appendix A), of which the random crop and the distortion of colour matter most (its figure 5). A crop
is scaled by one interpolation matrix for each axis, so that a batch of crops of all sizes is two products.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

AREA = (0.2, 1.0)  # of a crop, as a share of the picture
ASPECT = 4 / 3  # of a crop, at most, and the inverse at least
STRENGTH = 0.4  # brightness, contrast and saturation change by up to this factor
CAST = 0.1  # each channel's gain changes by up to this factor: a cast, in place of a turn of hue
GREY = 0.2  # share of views without colour

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def views(key: Key[Array, ""], pictures: UInt8[Array, "b h w 3"], side: int) -> Float[Array, "b side side 3"]:
    """One random view of each picture, in [0, 1]."""
    crop, colour = jax.random.split(key)
    return recolour(colour, random_crops(crop, pictures.astype(jnp.float32) / 255, side))


def random_crops(key: Key[Array, ""], x: Float[Array, "b h w c"], side: int) -> Float[Array, "b side side c"]:
    """A crop of random area, aspect, place and side of the mirror from each picture, scaled to `side`."""
    b = len(x)
    k = jax.random.split(key, 5)
    area = jax.random.uniform(k[0], (b,), minval=AREA[0], maxval=AREA[1])
    aspect = jnp.exp(jnp.log(ASPECT) * jax.random.uniform(k[1], (b,), minval=-1))
    h, w = (jnp.minimum(jnp.sqrt(area * a), 1.0) for a in (1 / aspect, aspect))
    top = (1 - h) * jax.random.uniform(k[2], (b,))
    left = (1 - w) * jax.random.uniform(k[3], (b,))
    mirrored = jax.random.bernoulli(k[4], 0.5, (b,))
    rows = interpolation(top, h, x.shape[1], side)
    columns = interpolation(jnp.where(mirrored, left + w, left), jnp.where(mirrored, -w, w), x.shape[2], side)
    return jnp.einsum("bih,bhwc,bjw->bijc", rows, x, columns)


def interpolation(start: Float[Array, "b"], length: Float[Array, "b"], size: int, side: int) -> Array:
    """Matrices (b, side, size) that read `side` evenly spaced values of the interval [start, start + length].

    start and length are shares of the `size` samples; a negative length reads backwards. Weights are triangles as wide
    as the distance of what is read, at least a sample: linear interpolation when enlarging, antialiased when reducing.
    """
    step = length * size / side
    at = start[:, None] * size + step[:, None] * (jnp.arange(side) + 0.5) - 0.5
    width = jnp.maximum(jnp.abs(step), 1.0)[:, None, None]
    weight = jnp.maximum(1 - jnp.abs(at[..., None] - jnp.arange(size)) / width, 0.0)
    return weight / weight.sum(-1, keepdims=True)


def recolour(key: Key[Array, ""], x: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Random brightness, contrast, saturation and cast of each picture, or no colour at all; within [0, 1]."""
    k = jax.random.split(key, 5)

    def factor(key: Key[Array, ""], strength: float, channels: int = 1) -> Array:
        return jax.random.uniform(key, (len(x), 1, 1, channels), minval=1 - strength, maxval=1 + strength)

    x = x * factor(k[0], STRENGTH) * factor(k[1], CAST, 3)
    grey = (x @ LUMA)[..., None]
    x = grey + (x - grey) * factor(k[2], STRENGTH)
    mean = grey.mean((1, 2), keepdims=True)
    x = mean + (x - mean) * factor(k[3], STRENGTH)
    colourless = jax.random.bernoulli(k[4], GREY, (len(x), 1, 1, 1))
    return jnp.clip(jnp.where(colourless, (x @ LUMA)[..., None], x), 0.0, 1.0)
