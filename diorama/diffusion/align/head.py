"""What is trained beside the denoiser for a term's sake, and left out of its release."""

from itertools import pairwise

import jax

from diorama.core.array import Array, Float, Key
from diorama.core.module import Module
from diorama.net.layers import Linear


class Perceptron(Module):
    """Linear layers with SiLU between them, place by place."""

    layers: list[Linear]

    @staticmethod
    def init(key: Key, *widths: int) -> "Perceptron":
        """One from `widths[0]` to `widths[-1]`, with the others between."""
        keys = jax.random.split(key, len(widths) - 1)
        return Perceptron([Linear.init(k, a, b) for k, (a, b) in zip(keys, pairwise(widths), strict=True)])

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        x = self.layers[0](x)
        for layer in self.layers[1:]:
            x = layer(jax.nn.silu(x))
        return x
