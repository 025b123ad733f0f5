"""Guidance that holds back where it would go astray."""

from dataclasses import dataclass

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.gaussian import Level, divide
from diorama.process.prediction import Prediction
from diorama.sample.guidance.guidance import Guidance, apart, flow, inner, plus


@dataclass(frozen=True)
class MAMBO(Guidance):
    """Magnitude-aware guidance (MAMBO-G, Zhu et al. 2025, arXiv 2508.03442).

    scale - 1 falls as exp(-`damping` |strong - weak| / |weak|), of flows: little is added where the two differ by much.
    """

    damping: float = 8.0

    def combine(self, strong: Prediction, weak: Prediction, extra: Array, at: Level, tau: Array) -> Prediction:
        difference = apart(strong, weak)
        ours, theirs = flow(difference), flow(weak)
        ratio = jnp.sqrt(divide(inner(ours, ours), inner(theirs, theirs)))
        return plus(strong, extra * jnp.exp(-self.damping * ratio), difference)
