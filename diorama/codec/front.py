"""How pixels enter a codec and leave it: neighbours folded into channels, as they are or as wavelet coefficients.

Full-resolution convolutions would take most of the time and learn little (DC-AE, Chen et al. 2024; LTX-Video).
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Float
from diorama.core.errors import UserError
from diorama.net.layers import depth_to_space, product, space_to_depth


@dataclass(frozen=True)
class Patch:
    """`size` x `size` pixels as they are, `size` a power of two."""

    size: int = 2

    def __post_init__(self) -> None:
        _check(self.size)

    def fold(self, media: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 c2"]:
        """Pixels into channels."""
        return space_to_depth(media, self.size)

    def unfold(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 c2"]:
        """The inverse of `fold`."""
        return depth_to_space(x, self.size)


@dataclass(frozen=True)
class Haar:
    """The orthonormal Haar wavelet of `size` x `size` pixels, over log2(size) levels (Haar 1910; as in Cosmos).

    Smooth regions then lie in few of the channels, edges in the others.
    """

    size: int = 2

    def __post_init__(self) -> None:
        _check(self.size)

    def fold(self, media: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 c2"]:
        """Pixels into coefficients: those of all channels for the first basis function, then for the next."""
        return self._transform(space_to_depth(media, self.size), haar(self.size))

    def unfold(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 c2"]:
        """The inverse of `fold`."""
        return depth_to_space(self._transform(x, haar(self.size).T), self.size)

    def _transform(self, x: Array, rows: np.ndarray) -> Array:
        matrix = np.kron(np.kron(rows, rows), np.eye(x.shape[-1] // self.size**2))
        return product(x, jnp.asarray(matrix.T, x.dtype))


def haar(size: int) -> np.ndarray:
    """The orthonormal matrix (size, size) of the one-dimensional Haar transform, the mean's row first."""
    if size == 1:
        return np.ones((1, 1))
    half = size // 2
    return np.concatenate([np.kron(haar(half), [1, 1]), np.kron(np.eye(half), [1, -1])]) / np.sqrt(2)


def _check(size: int) -> None:
    if size < 1 or size & (size - 1):
        raise UserError(f"a front of {size} pixels: its size is a power of two")
