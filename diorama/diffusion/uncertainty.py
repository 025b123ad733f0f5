"""Learned uncertainty: how large the weighted error is at each noise level, as it is found out while training."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float
from diorama.core.errors import UserError
from diorama.core.module import Module


@dataclass(frozen=True)
class UncertaintyConfig:
    """The loss is error / e^u + u with a learned u of the noise level (Karras et al. 2023, arXiv 2312.02696, eq. 21).

    The best u is the logarithm of the weighted error to be expected there, so that every noise level counts alike,
    however large its error is: in effect, the weighting is divided by e^u. Neither sampling nor guidance sees it.

    Args:
        terms: how finely u may differ between noise levels.
    """

    terms: int = 16

    def __post_init__(self) -> None:
        if self.terms < 1:
            raise UserError(f"terms={self.terms}: a series has at least one term")

    def init(self) -> "Uncertainty":
        """u = 0: at first the loss is as without it."""
        return Uncertainty(jnp.zeros(self.terms))


class Uncertainty(Module):
    """u, a cosine series in s = sqrt(sigma) / (sqrt(alpha) + sqrt(sigma)), which gives the far ends room."""

    weight: Float[Array, "terms"]

    def __call__(self, logsnr: Array) -> Array:
        """u at each `logsnr`, of its shape: summed in float32, of weights as the policy rounds them."""
        waves = jnp.arange(len(self.weight)) * jnp.pi * jax.nn.sigmoid(-logsnr / 4)[..., None]
        return (jnp.cos(waves) * self.weight.astype(jnp.float32)).sum(-1)
