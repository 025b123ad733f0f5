"""Independent Gaussian values."""

from dataclasses import dataclass

import jax

from diorama.core.array import Array, Key, Shape
from diorama.evaluate.truth.law import Law, Seen
from diorama.evaluate.truth.wiener import Wiener
from diorama.process.gaussian import Process


@dataclass(frozen=True)
class Gaussian(Law):
    """x0 ~ N(mean, variance), everywhere alike; `shape` is that of what is drawn."""

    mean: float = 0.0
    variance: float = 1.0
    shape: Shape = (1, 1, 1, 1)

    @property
    def wiener(self) -> Wiener:
        return Wiener(self.mean, self.variance)

    def look(self, x: Array, process: Process, tau: Array | float) -> Seen:
        return self.wiener.look(x, process, tau)

    def flow(self, process: Process, x: Array, tau: Array | float, tau_next: Array | float) -> Array:
        return self.wiener.flow(process, x, tau, tau_next)

    def draw(self, key: Key, n: int) -> Array:
        return self.wiener.draw(jax.random.normal(key, (n, *self.shape), float))
