"""A transformer of words that runs the text towers of CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023; SigLIP 2
of a fixed size, Tschannen et al. 2025).

Its blocks are those of `vit`. CLIP's see no later token, so that what follows the last one that counts is never seen;
SigLIP's see all tokens, those that fill a text up too.
"""

import jax.numpy as jnp

from diorama.core.array import Array, Float, Int
from diorama.core.module import Module, scan
from diorama.data.embed.vit import Block, LayerNorm
from diorama.net.layers import Linear


class TextTransformer(Module):
    """Token ids -> vectors in the space of a picture's: that of one token, normed and projected."""

    tokens: Float[Array, "v d"]
    positions: Float[Array, "n d"]
    blocks: Block  # stacked along a leading axis
    after: LayerNorm
    head: Linear

    def __call__(self, ids: Int[Array, "b l"], at: Int[Array, "b"]) -> Float[Array, "b e"]:
        """Vectors, not of length 1, of texts of at most n tokens; `at` is where each has the token that stands for it.

        ids: below v; larger ones are not noticed here.
        """
        x = self.tokens[ids] + self.positions[: ids.shape[1]]
        x, _ = scan(self.blocks, x, lambda block, x: (block(x), None))
        return self.head(self.after(x[jnp.arange(len(x)), at]))
