"""REPA (Yu et al. 2024, arXiv 2410.06940, equation 8): what a layer computes of a noisy clip is to say what a frozen
encoder sees in the clean one,

    1 - mean_n cos(h(z_n), y_n)

over the places n, with z a layer's features, y the encoder's and h a perceptron that is trained with the model. (The
paper leaves out the 1, which makes it 0 at best here.)
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from diorama.core.array import Array, Float, Key
from diorama.diffusion.align.head import Perceptron
from diorama.diffusion.align.seen import Seen
from diorama.net.features import at_grid, cosine, layer


@dataclass(frozen=True)
class REPA:
    """Alignment of one layer to the features of clean clips. It needs the encoder's features in the batch.

    Args:
        layer: which is aligned, from 0; about a third of the depth in the paper (7 of 28 blocks).
        weight: of this term beside the denoising loss.
        hidden: width of the perceptron's two inner layers, whatever the network's is; 2048 in the paper, for models of
            768 and more. The layer that takes the network's channels learns as the network's matrices do when
            that changes its size (`train.optimizer.Widened`), and those within the perceptron as ever.
    """

    layer: int = 1
    weight: float = 0.5
    hidden: int = 512
    name: ClassVar[str] = "repa"
    target: ClassVar[str] = "features"

    def head(self, key: Key, widths: list[int], features: int) -> Perceptron:
        """h, from the layer's width to that of the features."""
        return Perceptron.init(key, layer(widths, self.layer), self.hidden, self.hidden, features, fixed=("layers",))

    def __call__(self, head: Any, seen: Seen, key: Key) -> Float[Array, ""]:
        z = head(layer(seen.layers, self.layer))
        assert seen.features is not None
        return 1 - cosine(z, at_grid(jax.lax.stop_gradient(seen.features), z.shape)).mean()
