"""Guidance for flows that are not learned well yet."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Level, divide
from diorama.process.prediction import Prediction
from diorama.sample.guidance.guidance import Guidance, by_flow, flow, inner


@dataclass(frozen=True)
class CFGZero(Guidance):
    """CFG-Zero* (Fan et al. 2025, arXiv 2503.18886): the weak flow, best scaled, and a start that waits.

    The weak flow is multiplied by s* = <strong, weak> / |weak|^2, which brings it as near to the strong one as a factor
    can; and where tau > 1 - `zero`, x / (alpha + sigma) rests as it is (for rectified flow that is x), because what is
    predicted there is worse than nothing. The paper rests for the first 4 % of steps.
    """

    zero: float = 0.04

    def __post_init__(self) -> None:
        if not 0 <= self.zero <= 1:
            raise UserError(f"zero={self.zero}: the share of noise time to rest for is in [0, 1]")

    @classmethod
    def examples(cls) -> "tuple[Guidance, ...]":
        return cls(), cls(zero=0.0)

    def combine(self, strong: Prediction, weak: Prediction, extra: Array, at: Level, tau: Array) -> Prediction:
        ours, theirs = flow(strong), flow(weak)
        best = divide(inner(ours, theirs), inner(theirs, theirs), otherwise=1.0)
        led = by_flow(strong, extra * (ours - best * theirs), at)
        resting = by_flow(strong, -ours, at)
        rests = (tau > 1 - self.zero) & (extra != 0)
        return jax.tree.map(lambda a, b: jnp.where(rests, a, b), resting, led)
