"""The dispersive loss (Wang & He 2025, arXiv 2506.09027, equation 6): the features of a batch's examples are to lie
apart,

    log mean_ij exp(-|z_i - z_j|^2 / temperature)

over all pairs i, j of examples, i = j too, with the square a mean over a layer's features, as in the authors' code. It
is contrastive learning without positive pairs: the denoising loss does their work.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key
from diorama.core.errors import UserError
from diorama.diffusion.align.seen import Seen
from diorama.net.features import layer


@dataclass(frozen=True)
class Dispersive:
    """Spreads a layer's features: 0 where all are the same, and log(1 / b) at best. One part of an accumulated batch
    is a batch of its own here.

    Args:
        layer: whose features, from 0; a quarter of the depth in the paper.
        weight: of this term beside the denoising loss.
        temperature: the squared distance that counts as far.
    """

    layer: int = 1
    weight: float = 0.5
    temperature: float = 0.5
    name: ClassVar[str] = "dispersive"
    target: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise UserError("temperature is above 0")

    def head(self, key: Key, widths: list[int], features: int) -> None:
        """Nothing is trained for it. Raises `UserError` where there is no such layer."""
        layer(widths, self.layer)

    def __call__(self, head: Any, seen: Seen, key: Key) -> Float[Array, ""]:
        z = layer(seen.layers, self.layer)
        if len(z) < 2:
            raise UserError("'dispersive' spreads the examples of a batch, and there is one: a larger batch, or parts")
        z = z.reshape(len(z), -1).astype(jnp.float32)
        z = z - z.mean(0)  # distances stay, and are not small differences of large squares
        square = jnp.square(z).sum(-1)
        apart = (square[:, None] + square - 2 * z @ z.T) / z.shape[1]
        apart = jnp.where(jnp.eye(len(z), dtype=bool), 0, jnp.maximum(apart, 0))
        return jax.nn.logsumexp(-apart / self.temperature) - 2 * jnp.log(len(z))
