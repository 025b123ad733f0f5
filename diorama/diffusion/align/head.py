"""What is trained beside the denoiser for a term's sake, and left out of its release."""

from itertools import pairwise

import jax

from diorama.core.array import Array, Float, Key
from diorama.core.module import Module, static
from diorama.net.layers import Linear


class Perceptron(Module):
    """Linear layers with SiLU between them, place by place.

    fixed: as of `train.optimizer.Fixed`: ("layers",) where those have a width of their own, whatever the network's is.
    """

    enter: Linear
    layers: list[Linear]
    fixed: tuple[str, ...] = static()

    @staticmethod
    def init(key: Key, *widths: int, fixed: tuple[str, ...] = ()) -> "Perceptron":
        """One from `widths[0]` to `widths[-1]`, with the others between."""
        keys = jax.random.split(key, len(widths) - 1)
        enter, *layers = [Linear.init(k, a, b) for k, (a, b) in zip(keys, pairwise(widths), strict=True)]
        return Perceptron(enter, layers, fixed)

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        x = self.enter(x)
        for layer in self.layers:
            x = layer(jax.nn.silu(x))
        return x
