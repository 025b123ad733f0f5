"""Mixtures of Gaussians in the plane, or in any number of channels."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Key, Shape
from diorama.core.errors import UserError
from diorama.evaluate.truth.law import Law, Seen
from diorama.process.gaussian import Process
from diorama.process.noise import White


@dataclass(frozen=True)
class Mixture(Law):
    """Gaussians of standard deviation `std`, one for all or one each, about `means` (m, c); every position is
    independent of the others. `weights` (m,) are alike if there are none."""

    means: tuple[tuple[float, ...], ...]
    std: tuple[float, ...] | float
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.weights) and (len(self.weights) != len(self.means) or not math.isclose(sum(self.weights), 1)):
            raise UserError(f"weights={self.weights}: a mixture has a weight for every mean, and they sum to 1")

    @property
    def shape(self) -> Shape:
        return (1, 1, 1, len(self.means[0]))

    def look(self, x: Array, process: Process, tau: Array | float) -> Seen:
        if not isinstance(process.noise, White):
            raise UserError("a mixture of points is known under white noise only: take a mixture of fields")
        means, std = jnp.asarray(self.means, x.dtype), jnp.asarray(self.std, x.dtype)
        at = process.at(tau, x.ndim)
        total = at.alpha**2 * std**2 + at.sigma**2  # (..., 1 or m)
        apart = x[..., None, :] - at.alpha[..., None] * means  # (..., m, c)
        each = jnp.log(self._shares(x)) - 0.5 * ((apart**2).sum(-1) / total + x.shape[-1] * jnp.log(2 * jnp.pi * total))
        share = jax.nn.softmax(each, axis=-1)[..., None]
        u = apart / total[..., None]
        x0 = (share * (means + at.alpha[..., None] * (std**2)[..., None] * u)).sum(-2)
        u = (share * u).sum(-2)
        return Seen(x0, at.sigma * u, -u, jax.nn.logsumexp(each, axis=-1).sum((-3, -2, -1)))

    def draw(self, key: Key, n: int) -> Array:
        which, around = jax.random.split(key)
        shares = self._shares(jnp.zeros((), float))
        kind = jax.random.choice(which, len(self.means), (n,), p=shares)
        noise = jax.random.normal(around, (n, len(self.means[0])), float)
        std = jnp.broadcast_to(jnp.asarray(self.std, float), shares.shape)
        return (jnp.asarray(self.means, float)[kind] + std[kind, None] * noise)[:, None, None, None]

    def _shares(self, like: Array) -> Array:
        return jnp.asarray(self.weights if len(self.weights) else (1 / len(self.means),) * len(self.means), like.dtype)


def ring(modes: int = 6, radius: float = 1.0, std: float = 0.1) -> Mixture:
    """Equal Gaussians evenly around a circle in the plane, the first on its axis: the field's usual toy."""
    angles = 2 * np.pi * np.arange(modes) / modes
    return Mixture(tuple((float(radius * np.cos(a)), float(radius * np.sin(a))) for a in angles), std)
