"""iREPA (Singh et al. 2025, arXiv 2512.10794): REPA for the sake of where things are rather than what they are.

Two changes: h is one 3 x 3 convolution, and the encoder's features y are normalised over the places of each frame,

    y'_n = (y_n - share * mean_n y_n) / std_n y_n

channel by channel, so that what all places of a picture have in common is not what is learned first.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key
from diorama.diffusion.align.seen import Seen
from diorama.net.features import at_grid, cosine, layer
from diorama.net.layers import SpatialConv


@dataclass(frozen=True)
class IREPA:
    """Alignment of one layer to the spatial structure of the features of clean clips, which the batch brings.

    Args:
        layer, weight: as of `REPA`.
        share: of the mean over places that is taken off the features, in [0, 1].
    """

    layer: int = 1
    weight: float = 0.5
    share: float = 1.0
    name: ClassVar[str] = "irepa"
    target: ClassVar[str] = "features"

    def head(self, key: Key, widths: list[int], features: int) -> SpatialConv:
        """h, from the layer's width to that of the features."""
        return SpatialConv.init(key, layer(widths, self.layer), features)

    def __call__(self, head: Any, seen: Seen, key: Key) -> Float[Array, ""]:
        z = head(layer(seen.layers, self.layer))
        assert seen.features is not None
        y = at_grid(normalised(jax.lax.stop_gradient(seen.features), self.share), z.shape)
        return 1 - cosine(z, y).mean()


def normalised(y: Float[Array, "b t h w d"], share: float) -> Float[Array, "b t h w d"]:
    """y' of each frame, in float32."""
    y = y.astype(jnp.float32)
    return (y - share * y.mean((2, 3), keepdims=True)) / (y.std((2, 3), keepdims=True) + 1e-6)
