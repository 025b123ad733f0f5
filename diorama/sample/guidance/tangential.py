"""Guidance along what the strong and the weak prediction have in common."""

from dataclasses import dataclass

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.gaussian import Level, divide
from diorama.process.prediction import Prediction
from diorama.sample.guidance.guidance import Guidance, by_flow, flow, inner


@dataclass(frozen=True)
class Tangential(Guidance):
    """TCFG (Kwon et al. 2025, arXiv 2503.18137): the weak flow loses its part off the main direction of the two.

    That is the first right singular vector of [strong, weak], and so a combination of them whose
    coefficients are the first eigenvector of their 2 x 2 inner products: there is nothing to decompose.
    """

    def combine(self, strong: Prediction, weak: Prediction, extra: Array, at: Level, tau: Array) -> Prediction:
        ours, theirs = flow(strong), flow(weak)
        a, b, c = inner(ours, ours), inner(ours, theirs), inner(theirs, theirs)
        angle = jnp.arctan2(2 * b, a - c) / 2  # of that eigenvector
        main = jnp.cos(angle) * ours + jnp.sin(angle) * theirs
        kept = divide(inner(theirs, main), inner(main, main)) * main
        return by_flow(strong, extra * (ours - kept), at)
