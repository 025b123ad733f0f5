"""A vision transformer (Dosovitskiy et al. 2021) that runs the published encoders of pictures.

CLIP (Radford et al. 2021), SigLIP (Zhai et al. 2023) and DINOv2 (Oquab et al. 2023; with registers, Darcet et al. 2024)
are one network. What they differ in is data here: tokens beside those of patches, a norm before the blocks, a scale on
each branch, the activation, and how tokens become one vector. A part that a model lacks is None.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diorama.core.module import Module, scan, static
from diorama.net.layers import Linear, space_to_depth

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
}


class LayerNorm(Module):
    """Zero mean and unit variance over the last axis, in float32, then a gain and a bias."""

    gain: Float[Array, "d"]
    bias: Float[Array, "d"]
    eps: float = static()

    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        return (y * self.gain + self.bias).astype(x.dtype)


class Attention(Module):
    """Multi-head attention of some tokens to others; if causal, of each to none that come later."""

    q: Linear
    k: Linear
    v: Linear
    out: Linear
    heads: int = static()
    causal: bool = static(default=False)

    def __call__(self, x: Float[Array, "b m d"], to: Float[Array, "b n d"]) -> Float[Array, "b m d"]:
        q, k, v = (f(y).reshape(*y.shape[:2], self.heads, -1) for f, y in ((self.q, x), (self.k, to), (self.v, to)))
        return self.out(jax.nn.dot_product_attention(q, k, v, is_causal=self.causal).reshape(x.shape))


class Perceptron(Module):
    """Two layers with an activation between them."""

    up: Linear
    down: Linear
    activation: str = static()

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return self.down(ACTIVATIONS[self.activation](self.up(x)))


class Block(Module):
    """Attention and a perceptron, each normed before, scaled after, and beside a shortcut."""

    norm1: LayerNorm
    attention: Attention
    scale1: Float[Array, "d"] | None
    norm2: LayerNorm
    perceptron: Perceptron
    scale2: Float[Array, "d"] | None

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        y = self.norm1(x)
        y = self.attention(y, y)
        x = x + (y if self.scale1 is None else y * self.scale1)
        y = self.perceptron(self.norm2(x))
        return x + (y if self.scale2 is None else y * self.scale2)


class AttentionPool(Module):
    """A learned token that attends to all others (Zhai et al. 2022, "Scaling vision transformers")."""

    probe: Float[Array, "d"]
    attention: Attention
    norm: LayerNorm
    perceptron: Perceptron

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b d"]:
        x = self.attention(jnp.broadcast_to(self.probe, (len(x), 1, len(self.probe))), x)
        return (x + self.perceptron(self.norm(x)))[:, 0]


class VisionTransformer(Module):
    """Pictures -> vectors. `first` are the tokens before those of patches, with their positions added already: a class
    token, then registers. The vector is that of `pool`, else the class token."""

    enter: Linear
    first: Float[Array, "k d"]
    positions: Float[Array, "n d"]  # of patches, row by row
    before: LayerNorm | None
    blocks: Block  # stacked along a leading axis
    after: LayerNorm
    pool: AttentionPool | None
    projection: Float[Array, "d e"] | None
    patch: int = static()

    def __call__(self, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b e"]:
        """Vectors of normalised pictures of the side that `positions` are for."""
        x = self._tokens(pictures)
        y = x[:, 0] if self.pool is None else self.pool(x)
        return y if self.projection is None else y @ self.projection

    def places(self, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b i j d"]:
        """The last features of every patch, of such pictures."""
        x = self._tokens(pictures)[:, len(self.first) :]
        side = pictures.shape[1] // self.patch
        return x.reshape(len(x), side, -1, x.shape[-1])

    def _tokens(self, pictures: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        x = self.enter(space_to_depth(pictures[:, None], self.patch)[:, 0])
        x = x.reshape(len(x), -1, x.shape[-1]) + self.positions
        x = jnp.concatenate([jnp.broadcast_to(self.first, (len(x), *self.first.shape)), x], axis=1)
        x = x if self.before is None else self.before(x)
        x, _ = scan(self.blocks, x, lambda block, x: (block(x), None))
        return self.after(x)
