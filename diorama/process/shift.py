"""Time shift: a process whose noise comes sooner. Training and sampling both walk it, so they cannot disagree.

The more values tell of the same content, the more noise it takes to hide it. S times as much noise to signal at every
noise time is the time tau' = S tau / (1 + (S - 1) tau) of rectified flow (Esser et al. 2024, arXiv 2403.03206); the
same change of time is made for every process here.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Shape
from diorama.core.discover import any_of, kinds, within
from diorama.core.errors import UserError
from diorama.process.gaussian import Process, RectifiedFlow, _Remade

A = TypeVar("A", Array, np.ndarray)
if TYPE_CHECKING:
    Plain = Process
else:
    Plain = any_of(kinds(within("diorama.process"), Process))  # every process but those of this file, still being read


def shifted(tau: A, shift: float) -> A:
    """tau moved towards noise: S tau / (1 + (S - 1) tau); 1/S undoes S."""
    return shift * tau / (1 + (shift - 1) * tau)


@dataclass(frozen=True)
class Shifted(_Remade):
    """`process` at shifted times; `shift` > 1 for clips of more values than it suits as it is."""

    process: Plain = field(default_factory=RectifiedFlow)
    shift: float = 3.0

    def __post_init__(self) -> None:
        if self.shift <= 0:
            raise UserError(f"shift={self.shift}: a shift is above 0")

    def alpha(self, tau: Array) -> Array:
        return self.process.alpha(shifted(tau, self.shift))

    def sigma(self, tau: Array) -> Array:
        return self.process.sigma(shifted(tau, self.shift))

    def rates(self, tau: Array) -> tuple[Array, Array]:
        quicker = self.shift / (1 + (self.shift - 1) * tau) ** 2  # d tau' / d tau
        alpha_dot, sigma_dot = self.process.rates(shifted(tau, self.shift))
        return quicker * alpha_dot, quicker * sigma_dot

    def tau_of_logsnr(self, logsnr: Array) -> Array:
        inner = jnp.minimum(self.process.tau_of_logsnr(logsnr), 1.0)  # `shifted` has a pole beyond the end
        return shifted(inner, 1 / self.shift)


@dataclass(frozen=True)
class ShiftedBySize(_Remade):
    """`process` shifted by sqrt(values / base), for clips of so many values t h w c (RAE, arXiv 2510.11690).

    Buckets of several sizes each get their own shift: `of(shape)` is the process that a clip goes through.
    """

    process: Plain = field(default_factory=RectifiedFlow)
    base: int = 4096

    def __post_init__(self) -> None:
        if self.base < 1:
            raise UserError(f"base={self.base}: the number of values that need no shift is at least 1")

    def of(self, shape: Shape) -> Process:
        return Shifted(self.process, math.sqrt(math.prod(shape) / self.base))

    def alpha(self, tau: Array) -> Array:
        raise UserError("a process shifted by size is one for each shape of clips: take process.of((t, h, w, c))")

    def sigma(self, tau: Array) -> Array:
        return self.alpha(tau)
