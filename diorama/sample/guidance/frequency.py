"""Guidance with a scale of its own for what is coarse and what is fine."""

from dataclasses import dataclass

import jax

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Level
from diorama.process.prediction import Prediction
from diorama.sample.guidance.guidance import Guidance, apart, plus


@dataclass(frozen=True)
class FrequencyDecoupled(Guidance):
    """FDG (Sadat et al. 2025, arXiv 2506.19713): `scale` for fine detail, less for what is coarse.

    Coarse is what is left of a frame that is made smaller and large again, linearly: a Laplacian pyramid of two levels.

    Args:
        coarse: what is coarse gets this share of scale - 1; 1 is `ClassifierFree`. (The paper's 5 and 10 are 0.44.)
        factor: how much smaller.
    """

    coarse: float = 0.44
    factor: int = 2

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise UserError(f"factor={self.factor}: a frame is made smaller by a factor of at least 1")

    def combine(self, strong: Prediction, weak: Prediction, extra: Array, at: Level, tau: Array) -> Prediction:
        difference = apart(strong, weak)  # to filter space alone keeps a pair a pair
        change = jax.tree.map(lambda d: d - (1 - self.coarse) * self._low(d), difference)
        return plus(strong, extra, change)

    def _low(self, x: Array) -> Array:
        *lead, h, w, c = x.shape
        small = jax.image.resize(x, (*lead, -(-h // self.factor), -(-w // self.factor), c), "linear")
        return jax.image.resize(small, x.shape, "linear")
