"""Guidance without its part along the prediction, which saturates."""

from dataclasses import dataclass

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Level, divide
from diorama.process.prediction import Prediction
from diorama.sample.guidance.guidance import Guidance, by_x0, inner


@dataclass(frozen=True)
class APG(Guidance):
    """Adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416), on x0.

    Their momentum is left out: it needs a memory from step to step, and a denoiser has none.

    Args:
        eta: what is kept of the difference's part along the strong x0; 0 is none, 1 all.
        limit: most root mean square of the difference, None for no limit. The paper's r is a norm: divide it by the
            root of a frame's number of values (15 on 128 x 128 x 4 latents is 0.06).
    """

    eta: float = 0.0
    limit: float | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit <= 0:
            raise UserError(f"limit={self.limit}: a limit is above 0, and None is no limit")

    @classmethod
    def examples(cls) -> "tuple[Guidance, ...]":
        return cls(), cls(limit=0.1)

    def combine(self, strong: Prediction, weak: Prediction, extra: Array, at: Level, tau: Array) -> Prediction:
        difference = strong.x0 - weak.x0
        if self.limit is not None:
            size = jnp.sqrt(jnp.square(difference).mean((-3, -2, -1), keepdims=True))
            difference = difference * jnp.minimum(1.0, divide(jnp.full_like(size, self.limit), size, otherwise=1.0))
        along = divide(inner(difference, strong.x0), inner(strong.x0, strong.x0)) * strong.x0
        return by_x0(strong, extra * (difference - (1 - self.eta) * along), at)
