"""The law that guidance is said to sample and does not: p^(1-w) p_c^w, normalised."""

from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from diorama.core.array import Array, Key, Shape
from diorama.core.errors import UserError
from diorama.evaluate.truth.classes import Classes
from diorama.evaluate.truth.field import Field
from diorama.evaluate.truth.gaussian import Gaussian
from diorama.evaluate.truth.law import size
from diorama.evaluate.truth.wiener import Wiener
from diorama.process.gaussian import RectifiedFlow


def tilted(classes: Classes, weight: float) -> "Gaussian | TiltedField | Tilted":
    """p^(1-w) p_c^w: in closed form for two Gaussians or two fields, else by quadrature in one or two dimensions.

    Raises `UserError` where it has no finite integral, or where there are more dimensions.
    """
    p, p_c = classes.marginal, classes.conditional
    if isinstance(p, Gaussian) and isinstance(p_c, Gaussian):
        mean, variance = _product(p.mean, p.variance, p_c.mean, p_c.variance, weight)
        return Gaussian(float(mean), float(variance), p.shape)
    if isinstance(p, Field) and isinstance(p_c, Field):
        return TiltedField(p.shape, marginal=p, conditional=p_c, weight=weight)
    return Tilted(classes, weight)


def _product(mean, variance, mean_c, variance_c, weight):  # type: ignore[no-untyped-def]
    precision = (1 - weight) / variance + weight / variance_c
    if np.min(precision) <= 0:
        raise UserError(f"guidance of {weight:g} leaves no law: p^(1-w) p_c^w has no finite integral")
    return ((1 - weight) * mean / variance + weight * mean_c / variance_c) / precision, 1 / precision


@dataclass(frozen=True)
class TiltedField(Field):
    """Of two fields of one shape: in every mode the product of two Gaussians."""

    marginal: Field = field(default_factory=Field)
    conditional: Field = field(default_factory=Field)
    weight: float = 1.0

    @property
    def power(self) -> np.ndarray:
        return _product(0.0, self.marginal.power, 0.0, self.conditional.power, self.weight)[1]

    @property
    def wiener(self) -> Wiener:
        p, p_c = self.marginal, self.conditional
        lowest = p.power[0, 0, 0], p_c.power[0, 0, 0]  # of the constants, where the means lie
        mean = _product(np.asarray(p.mean), lowest[0], np.asarray(p_c.mean), lowest[1], self.weight)[0]
        return Wiener(jnp.asarray(mean), self.power, max(p.wiener.axes, p_c.wiener.axes, key=len))


@dataclass(frozen=True)
class Tilted:
    """By the sum over a fine grid of `points` a dimension within `reach` of the origin, for clips of 1 or 2 numbers.

    The sum converges faster than any power of the spacing, for the density is smooth and falls to nothing at the edge.
    """

    classes: Classes
    weight: float
    reach: float = 4.0
    points: int = 401

    def __post_init__(self) -> None:
        if size(self.shape) > 2:
            raise UserError("a tilted law of mixtures is known in one or two dimensions")

    @property
    def shape(self) -> Shape:
        return self.classes.marginal.shape

    @cached_property
    def grid(self) -> np.ndarray:
        """All points, (n, t, h, w, c)."""
        line = np.linspace(-self.reach, self.reach, self.points)
        return np.stack(np.meshgrid(*[line] * size(self.shape), indexing="ij"), -1).reshape(-1, *self.shape)

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Of every point's cell, (n,)."""
        return np.exp(self._on_grid - self.log_z + self._log_cell)

    @cached_property
    def log_z(self) -> float:
        """The logarithm of the integral of p^(1-w) p_c^w."""
        return float(logsumexp(self._on_grid)) + self._log_cell

    @cached_property
    def _on_grid(self) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(jax.jit(self._unnormalised)(jnp.asarray(self.grid)))

    def logp(self, x: Array) -> Array:
        """log density of data `x` (b, t, h, w, c)."""
        return self._unnormalised(x) - self.log_z

    @property
    def mean(self) -> np.ndarray:
        return self.probabilities @ self.grid.reshape(len(self.grid), -1)

    @property
    def covariance(self) -> np.ndarray:
        apart = self.grid.reshape(len(self.grid), -1) - self.mean
        return (self.probabilities[:, None] * apart).T @ apart

    def draw(self, key: Key, n: int) -> Array:
        """Samples (n, t, h, w, c): a cell, and a place in it."""
        which, within = jax.random.split(key)
        shares = jnp.asarray(self.probabilities / self.probabilities.sum())
        cell = jax.random.choice(which, len(self.grid), (n,), p=shares)
        spacing = 2 * self.reach / (self.points - 1)
        return jnp.asarray(self.grid)[cell] + spacing * (jax.random.uniform(within, (n, *self.shape), float) - 0.5)

    def _unnormalised(self, x: Array) -> Array:
        p, p_c = self.classes.marginal, self.classes.conditional
        return (1 - self.weight) * p.logp(x, RectifiedFlow()) + self.weight * p_c.logp(x, RectifiedFlow())

    @property
    def _log_cell(self) -> float:
        return size(self.shape) * float(np.log(2 * self.reach / (self.points - 1)))
