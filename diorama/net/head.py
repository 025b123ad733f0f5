"""A wide head for latents of many channels: blocks at the end that see the noisy latents once more.

The transformer before it says what is there, the head how it is written down (DDT, Wang et al. 2025, arXiv 2504.05741;
RAE, Zheng et al. 2025, arXiv 2510.11690: latents of c channels are learned only by a network of width >= c, and a
shallow wide head is enough).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key
from diorama.core.errors import UserError
from diorama.core.module import Module, Remat, scan, stack
from diorama.net.block import Block, Sight
from diorama.net.condition import Context
from diorama.net.layers import Linear, rms
from diorama.net.places import Reach

if TYPE_CHECKING:
    from diorama.net.transformer import TransformerConfig

FRAME = Reach(past=0, future=0)


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of the head; its tokens see their own frame.

    Args:
        width: at least as many as a token has channels.
        depth: its blocks; two are usual.
    """

    width: int = 2048
    depth: int = 2

    def init(self, key: Key, net: "TransformerConfig", inputs: int, outputs: int) -> "Head":
        """The head of a network, for tokens of `inputs` noisy channels and `outputs` predicted ones.

        Raises `UserError` where its width is no multiple of the width of the network's attention heads.
        """
        each = net.width // net.heads
        if self.width % each or self.depth < 1:
            raise UserError(
                f"net.head.width is {self.width}: give a multiple of {each}, the width of one attention head"
            )
        k = jax.random.split(key, 6)

        def block(key: Key) -> Block:
            return Block.init(
                key, self.width, self.width // each, FRAME, shared=False, cross=False, beside=False, mixing=False,
                activation=net.activation, film=None,
            )  # fmt: skip

        return Head(
            enter=Linear.init(k[0], inputs, self.width),
            level=Linear.init(k[1], net.width, self.width),
            said=Linear.init(k[2], net.width, self.width),
            blocks=stack(block, k[3], self.depth),
            film=Linear.init(k[4], self.width, 2 * self.width, scale=0.0),
            leave=Linear.init(k[5], self.width, outputs, scale=0.0),
        )


class Head(Module):
    """Noisy latents and what the network made of them, to the output; made by `HeadConfig.init`."""

    enter: Linear
    level: Linear
    said: Linear
    blocks: Block
    film: Linear
    leave: Linear

    @property
    def fixed(self) -> tuple[str, ...]:
        """As of `train.optimizer.Fixed`."""
        return ("enter", "blocks", "film", "leave")

    def __call__(
        self, cells: Float[Array, "b t h w i"], tokens: Float[Array, "b t h w d"], embedding: Array, sight: Sight,
        remat: Remat = "none",
    ) -> Float[Array, "b t h w o"]:  # fmt: skip
        """Every token's own embedding modulates it, of its noise level and of what the network says of it."""
        own = jax.nn.silu(sight.spread(self.level(embedding)) + self.said(rms(tokens).astype(tokens.dtype)))
        sight = Sight(own, 0.0, Context(), None, sight.places, None, sight.grid, sight.way)

        def call(block: Block, x: Array) -> tuple[Array, None]:
            return block(x, None, sight, None, None)[0], None

        x, _ = scan(self.blocks, self.enter(cells), call, remat)
        scale, shift = jnp.split(self.film(own), 2, axis=-1)
        return self.leave(rms(x).astype(x.dtype) * (1 + scale) + shift)
