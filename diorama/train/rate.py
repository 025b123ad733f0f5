"""The learning rate as a function of training examples seen, so that it does not depend on the batch size."""

from dataclasses import dataclass

import jax.numpy as jnp

from diorama.core.array import Array


@dataclass(frozen=True)
class Constant:
    """No decay."""

    def __call__(self, examples: Array, total: int) -> Array:
        return jnp.ones_like(examples)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 down to `floor` at the last example."""

    floor: float = 0.0

    def __call__(self, examples: Array, total: int) -> Array:
        along = jnp.clip(examples / total, 0, 1)
        return self.floor + (1 - self.floor) * 0.5 * (1 + jnp.cos(jnp.pi * along))


@dataclass(frozen=True)
class InverseSquareRoot:
    """1 up to `reference` examples, then falling as 1 / sqrt(examples / reference) (EDM2, arXiv 2312.02696, eq. 67)."""

    reference: int

    def __call__(self, examples: Array, total: int) -> Array:
        return 1 / jnp.sqrt(jnp.maximum(examples / self.reference, 1))


Decay = Constant | Cosine | InverseSquareRoot
