"""Self-alignment without an encoder, after SRA (Jiang et al. 2025, arXiv 2505.02831, equations 4 to 6): what an earlier
layer computes of a clip is to say what a later one of the same model computes of it with less noise,

    tau' = max(tau - reach * u, 0),  u uniform in [0, 1):      mean huber(h(z_layer(x_tau)), stop(z_later(x_tau')))

with the same epsilon in both, and h a perceptron. SRA's teacher is an average of the model. Here it is the model itself
without a gradient, which an objective sees; the denoising loss keeps its later layers from saying nothing.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from diorama.core import random
from diorama.core.array import Array, Float, Key
from diorama.core.errors import UserError
from diorama.diffusion.align.head import Perceptron
from diorama.diffusion.align.seen import Seen
from diorama.net.features import at_grid, layer, layers

BEND = 0.05  # where the penalty turns from square to linear


@dataclass(frozen=True)
class SelfAlignment:
    """Alignment of one layer to a later one that sees less noise: a second pass forwards, and none backwards.

    Args:
        layer, later: which is aligned to which, from 0; 7 and 19 of 28 blocks in the paper.
        weight: of this term beside the denoising loss.
        reach: how much less noise time the later one has, at most.
    """

    layer: int = 1
    later: int = 3
    weight: float = 0.2
    reach: float = 0.2
    name: ClassVar[str] = "self_alignment"
    target: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.layer >= self.later or not 0 <= self.reach <= 1:
            raise UserError("an earlier layer is aligned to a later one, and reach is a noise time in [0, 1]")

    def head(self, key: Key, widths: list[int], features: int) -> Perceptron:
        """h, from the earlier layer's width to the later one's."""
        inner = layer(widths, self.layer)
        return Perceptron.init(key, inner, inner, layer(widths, self.later))

    def __call__(self, head: Any, seen: Seen, key: Key) -> Float[Array, ""]:
        given = seen.noised
        tau = jnp.maximum(given.tau - self.reach * random.uniform(key, seen.ids)[:, None], 0)
        process = seen.denoiser.process.of(given.x0.shape[1:])
        clearer = process.add_noise(given.x0, given.epsilon, tau)
        found = layers(seen.denoiser.look(clearer, tau, given.signals)[1].intermediates)
        z = head(layer(seen.layers, self.layer)).astype(jnp.float32)
        off = jnp.abs(z - at_grid(jax.lax.stop_gradient(layer(found, self.later)), z.shape))
        return jnp.where(off < BEND, jnp.square(off) / (2 * BEND), off - BEND / 2).mean()
