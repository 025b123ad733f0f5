"""A small convolutional encoder in closed form: nothing of it is found by gradients, so it takes seconds.

1. Patches of the pictures, normalised and whitened, meet a dictionary of such patches (Coates, Ng & Lee 2011, "An
   analysis of single-layer networks in unsupervised feature learning"; that patches drawn at random do: Coates & Ng
   2011, "The importance of encoding versus training with sparse coding and vector quantization").
2. Soft thresholds and means over quarters of the picture make its features.
3. A linear map gives the vector: the directions in which pictures differ, in units of what random views of one picture
   change. That is the optimum of VICReg and of contrastive learning for linear maps (Balestriero & LeCun 2022,
   "Contrastive and non-contrastive self-supervised learning recover global and local spectral embedding methods"), and
   Fisher's discriminant where every picture is a class of its own.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, UInt8

from diorama.core.module import Module
from diorama.core.progress import progress
from diorama.core.random import stream
from diorama.data.embed.augment import views

PATCH = 6  # pixels along each side
STRIDE = 2
QUARTERS = 2  # along each side
CONTRAST = 10 / 255  # below which a patch counts as flat
FLATTEN = 0.1  # variance added when patches are whitened, of about 1 each
THRESHOLD = 1.0  # in standard deviations of a response
RIDGE = 0.1  # of the mean variance, added to what views change
FITTED = 1000  # pictures that the dictionary comes from
BATCH = 128
VIEWS = 4


class Encoder(Module):
    """Pictures -> vectors: `filters` of whitened patches, thresholds, quarters, and a linear map about `mean`."""

    filters: Float[Array, "p k"]
    mean: Float[Array, "f"]
    projection: Float[Array, "f d"]

    @staticmethod
    def blank(filters: int, width: int) -> "Encoder":
        """One of zeros: the shapes."""
        features = 2 * filters * QUARTERS**2
        return Encoder(jnp.zeros((3 * PATCH**2, filters)), jnp.zeros(features), jnp.zeros((features, width)))

    def __call__(self, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
        """Vectors of pictures in [0, 1]."""
        return (features(self.filters, pictures) - self.mean) @ self.projection

    def places(self, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b i j d"]:
        """Of every patch the vector of a picture all of whose quarters look as it does."""
        answers = _answers(self.filters, pictures)
        projection = self.projection.reshape(QUARTERS**2, -1, self.projection.shape[-1]).sum(0)
        return answers @ projection - self.mean @ self.projection


def patches(pictures: Float[Array, "b h w 3"]) -> Float[Array, "b i j p"]:
    """Every second patch along each side, of zero mean, and of unit variance unless it is nearly flat."""
    h, w = (side - PATCH + 1 for side in pictures.shape[1:3])
    shifted = [pictures[:, y : y + h : STRIDE, x : x + w : STRIDE] for y in range(PATCH) for x in range(PATCH)]
    p = jnp.concatenate(shifted, -1)
    p = p - p.mean(-1, keepdims=True)
    return p * jax.lax.rsqrt(jnp.square(p).mean(-1, keepdims=True) + CONTRAST**2)


def features(filters: Float[Array, "p k"], pictures: Float[Array, "b h w 3"]) -> Float[Array, "b f"]:
    """How strongly each filter answers, with either sign, in each quarter of the picture."""
    z = _answers(filters, pictures)
    rows, columns = ([size * q // QUARTERS for q in range(QUARTERS + 1)] for size in z.shape[1:3])
    means = [
        z[:, rows[y] : rows[y + 1], columns[x] : columns[x + 1]].mean((1, 2))
        for y in range(QUARTERS)
        for x in range(QUARTERS)
    ]
    return jnp.concatenate(means, -1)


def _answers(filters: Float[Array, "p k"], pictures: Float[Array, "b h w 3"]) -> Float[Array, "b i j k2"]:
    p = patches(pictures)
    b, i, j, _ = p.shape
    z = (p.reshape(b * i * j, -1) @ filters).reshape(b, i, j, -1)
    return jnp.concatenate([jax.nn.relu(z - THRESHOLD), jax.nn.relu(-z - THRESHOLD)], -1)


def dictionary(pictures: UInt8[np.ndarray, "n h w 3"], filters: int, seed: int) -> Float[Array, "p k"]:
    """Filters (p, k): whitening, then the whitened patches themselves, each of length 1, drawn at random."""
    k1, k2, k3 = jax.random.split(stream(seed, "embedding.patches"), 3)
    chosen = jax.random.choice(k1, len(pictures), (min(FITTED, len(pictures)),), replace=False)
    found = jax.jit(patches)(jnp.asarray(pictures[np.asarray(chosen)], jnp.float32) / 255)
    found = found.reshape(-1, found.shape[-1])
    variance, axes = jnp.linalg.eigh(found.T @ found / len(found))
    whitening = (axes * jax.lax.rsqrt(jnp.maximum(variance, 0) + FLATTEN)) @ axes.T
    drawn = found[jax.random.choice(k2, len(found), (16 * filters,))] @ whitening
    length = jnp.linalg.norm(drawn, axis=-1)
    picked = jax.random.choice(k3, len(drawn), (filters,), replace=False, p=(length > 1) + 1e-6)  # hardly a flat one
    return whitening @ (drawn[picked] / jnp.maximum(length[picked], 1)[:, None]).T


def fit(pictures: UInt8[np.ndarray, "n h w 3"], filters: int, width: int, seed: int) -> Encoder:
    """The encoder of pictures into `width` numbers, from VIEWS random views of each."""
    bank = dictionary(pictures, filters, seed)

    @jax.jit
    def moments(key: Array, some: UInt8[Array, "b h w 3"]) -> tuple[Array, Array, Array, Array]:
        seen = views(key, jnp.repeat(some, VIEWS, axis=0), some.shape[1])
        f = features(bank, seen).reshape(len(some), VIEWS, -1)
        centre = f.mean(1)
        apart = (f - centre[:, None]).reshape(-1, f.shape[-1])
        plain = features(bank, some.astype(jnp.float32) / 255)
        return plain.sum(0), centre.sum(0), apart.T @ apart, centre.T @ centre

    n = len(pictures)
    sums: list[np.ndarray] = []
    with progress(n, "embedding: learning", "pictures") as bar:
        for number, start in enumerate(range(0, n, BATCH)):
            some = pictures[start : start + BATCH]
            found = [np.asarray(x, np.float64) for x in moments(stream(seed, "embedding.views", number), some)]
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
            bar.advance(len(some))
    plain, centre, apart, squares = sums
    within = apart / (n * (VIEWS - 1))
    between = squares / n - np.outer(centre, centre) / n**2 - within / VIEWS
    projection = discriminant(within.astype(np.float32), between.astype(np.float32), width)
    return Encoder(bank, jnp.float32(plain / n), jnp.float32(projection))


def discriminant(within: np.ndarray, between: np.ndarray, width: int) -> np.ndarray:
    """The linear map (f, width) under which classes lie furthest apart (Fisher 1936), given two covariances (f, f).

    What is within a class becomes white, of unit variance but for RIDGE. Each direction is then scaled by the square
    root of the share of variance that is between classes (Wiener), which hushes those that tell little.
    """
    size = len(within)
    ridge = RIDGE * np.trace(within + between) / size + 1e-12
    noise = within + ridge * np.eye(size)
    ratio, axes = scipy.linalg.eigh(between, noise, subset_by_index=(size - width, size - 1))
    ratio = np.maximum(ratio, 0.0)
    return axes * np.sqrt(ratio / (1 + ratio))
