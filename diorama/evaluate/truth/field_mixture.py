"""Mixtures of Gaussian random fields: pictures and videos of several kinds."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Key, Shape
from diorama.core.errors import UserError
from diorama.evaluate.truth.field import Field
from diorama.evaluate.truth.law import Law, Seen, mix
from diorama.process.gaussian import Process


@dataclass(frozen=True)
class FieldMixture(Law):
    """A clip is of one of `fields`, which share a shape, as often as `weights` say; alike if there are none."""

    fields: tuple[Field, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len({field.shape for field in self.fields}) != 1:
            raise UserError("the fields of a mixture have one shape")
        if self.weights and (len(self.weights) != len(self.fields) or not math.isclose(sum(self.weights), 1)):
            raise UserError(f"weights={self.weights}: a mixture has a weight for every field, and they sum to 1")

    @property
    def shape(self) -> Shape:
        return self.fields[0].shape

    def look(self, x: Array, process: Process, tau: Array | float) -> Seen:
        return mix([field.look(x, process, tau) for field in self.fields], jnp.log(self._shares(x)))

    def draw(self, key: Key, n: int) -> Array:
        which, white = jax.random.split(key)
        kind = jax.random.choice(which, len(self.fields), (n,), p=self._shares(jnp.zeros((), float)))
        noise = jax.random.normal(white, (n, *self.shape), float)
        every = jnp.stack([field.wiener.draw(noise) for field in self.fields])
        return every[kind, jnp.arange(n)]

    def _shares(self, like: Array) -> Array:
        return jnp.asarray(self.weights or (1 / len(self.fields),) * len(self.fields), like.dtype)
