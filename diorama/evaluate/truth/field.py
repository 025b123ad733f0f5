"""Gaussian random fields: images and videos with an exact score and without any weights."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Key, Shape
from diorama.evaluate.truth.law import Law, Seen
from diorama.evaluate.truth.wiener import Wiener
from diorama.process.gaussian import Process
from diorama.process.noise import Coloured


@dataclass(frozen=True)
class Field(Law):
    """Power that falls as frequency^-`space` over (h, w) and as frequency^-`time` over frames, as in pictures.

    Every value has the standard deviation `std` about `mean`, one number or one a channel; channels are independent.
    The mean of a picture has the power of the lowest frequency. Frames may have noise times of their own if `time` is
    0, for then they are independent.
    """

    shape: Shape = (1, 32, 32, 3)
    space: float = 2.0
    time: float = 0.0
    std: float = 1.0
    mean: tuple[float, ...] | float = 0.0

    @property
    def power(self) -> np.ndarray:
        """The variance of every mode, (t, h, w, 1), in the order of `fftn` with norm "ortho"; its mean is std^2."""
        return self.std**2 * Coloured(self.space, self.time).power(*self.shape[:3])[..., None]

    @property
    def wiener(self) -> Wiener:
        return Wiener(jnp.asarray(self.mean), self.power, (-4, -3, -2) if self.time else (-3, -2))

    def look(self, x: Array, process: Process, tau: Array | float) -> Seen:
        return self.wiener.look(x, process, tau)

    def flow(self, process: Process, x: Array, tau: Array | float, tau_next: Array | float) -> Array:
        return self.wiener.flow(process, x, tau, tau_next)

    def draw(self, key: Key, n: int) -> Array:
        return self.wiener.draw(jax.random.normal(key, (n, *self.shape), float))
