"""Terms on pixels: how differences count, and at which scale."""

import jax.numpy as jnp
import numpy as np

from diorama.codec.front import Haar
from diorama.codec.loss.term import Comparison
from diorama.core.array import Array, Float, Media
from diorama.core.errors import UserError
from diorama.core.module import static


class L1(Comparison):
    """mean |x_hat - x|: its optimum is the median, which keeps edges sharper than the mean."""

    def penalty(self, difference: Array) -> Array:
        return jnp.abs(difference)

    def compare(self, again: Media, media: Media) -> Float[Array, ""]:
        return jnp.mean(self.penalty(again - media))


class L2(Comparison):
    """mean (x_hat - x)^2; the log calls it `mse`."""

    @property
    def name(self) -> str:
        return "mse"

    def penalty(self, difference: Array) -> Array:
        return jnp.square(difference)

    def compare(self, again: Media, media: Media) -> Float[Array, ""]:
        return jnp.mean(self.penalty(again - media))


class Charbonnier(Comparison):
    """mean (sqrt((x_hat - x)^2 + epsilon^2) - epsilon) (Charbonnier et al. 1994): L1 with a round bottom.

    epsilon: differences below it count by their square. Media span 2.
    """

    epsilon: float = static(default=1e-3)

    def penalty(self, difference: Array) -> Array:
        square = jnp.square(difference)
        return square / (jnp.sqrt(square + self.epsilon**2) + self.epsilon)  # the same, without a difference of equals

    def compare(self, again: Media, media: Media) -> Float[Array, ""]:
        return jnp.mean(self.penalty(again - media))


class MultiScale(Comparison):
    """The mean of `of` over `scales` sizes of the difference, each half the one before: coarse structure counts more.

    A side that is odd is filled up with its edge.
    """

    of: L1 | L2 | Charbonnier = L1()
    scales: int = static(default=3)

    def __check_init__(self) -> None:
        if self.scales < 1:
            raise UserError(f"scales={self.scales}: give at least 1")

    def compare(self, again: Media, media: Media) -> Float[Array, ""]:
        difference = again - media
        values = [jnp.mean(self.of.penalty(difference))]
        for _ in range(self.scales - 1):
            difference = halved(difference)
            values.append(jnp.mean(self.of.penalty(difference)))
        return jnp.stack(values).mean()


class Wavelet(Comparison):
    """`of` on the coefficients of the orthonormal Haar wavelet of the difference, each band with a weight of its own:

        1 / n  sum_bands  w_band  sum_i  of(coefficient_i),     n numbers in the media

    With L2 and all weights 1 this is L2 itself (Parseval). Larger weights of the fine bands ask for detail.

    weights: of the mean of blocks of 2^levels pixels, then of each level from the coarsest to the finest; so there is
        one more than levels.
    """

    of: L1 | L2 | Charbonnier = L1()
    weights: tuple[float, ...] = static(default=(1.0, 1.0, 2.0, 4.0))

    def __check_init__(self) -> None:
        if len(self.weights) < 2:
            raise UserError(f"weights={self.weights}: give one for the mean and one for each level")

    def compare(self, again: Media, media: Media) -> Float[Array, ""]:
        difference = again - media
        size = 2 ** (len(self.weights) - 1)
        rest = (-difference.shape[-3] % size, -difference.shape[-2] % size)
        whole = jnp.pad(difference, ((0, 0), (0, 0), (0, rest[0]), (0, rest[1]), (0, 0)))
        level = np.array([row.bit_length() for row in range(size)])  # of each row of the transform
        weights = np.array(self.weights)[np.maximum(level[:, None], level)].ravel()
        penalties = self.of.penalty(Haar(size).fold(whole))
        return jnp.sum(penalties * np.repeat(weights, difference.shape[-1])) / difference.size


def halved(x: Float[Array, "b t h w c"]) -> Float[Array, "b t h2 w2 c"]:
    """Means of 2 x 2 pixels; a side that is odd is filled up with its edge."""
    b, t, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    return x.reshape(b, t, (h + 1) // 2, 2, (w + 1) // 2, 2, c).mean((3, 5))
