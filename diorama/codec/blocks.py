"""What the convolutional codec is made of. Whatever looks back in time has `chunk(x, past) -> y, past`: the next frames
of a clip, with what the frames before left behind (None at its start), so that a clip can be coded piece by piece.
"""

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key
from diorama.core.module import Module, static
from diorama.net.attention import SelfAttention
from diorama.net.layers import Linear, Norm, SpatialConv, TemporalConv, depth_to_space, space_to_depth
from diorama.net.places import grid_positions

HEAD = 32  # channels of an attention head


class Block(Module):
    """Two 3 x 3 convolutions and one causal along time, each branch starting at zero."""

    norm1: Norm
    conv1: SpatialConv
    conv2: SpatialConv
    norm2: Norm
    time: TemporalConv

    @staticmethod
    def init(key: Key, width: int) -> "Block":
        k1, k2, k3 = jax.random.split(key, 3)
        return Block(
            Norm.init(width),
            SpatialConv.init(k1, width, width),
            SpatialConv.init(k2, width, width, scale=0.0),
            Norm.init(width),
            TemporalConv.init(k3, width, width, scale=0.0),
        )

    def chunk(self, x: Float[Array, "b t h w c"], past: Array | None) -> tuple[Float[Array, "b t h w c"], Array]:
        x = x + self.conv2(jax.nn.silu(self.conv1(jax.nn.silu(self.norm1(x)))))
        y, past = self.time.chunk(jax.nn.silu(self.norm2(x)), past)
        return x + y, past


class Attend(Module):
    """A transformer block over the cells of each frame by itself, so that causality in time is kept."""

    norm1: Norm
    attention: SelfAttention
    norm2: Norm
    hidden: Linear
    out: Linear

    @staticmethod
    def init(key: Key, width: int) -> "Attend":
        k1, k2, k3 = jax.random.split(key, 3)
        return Attend(
            Norm.init(width),
            SelfAttention.init(k1, width, max(width // HEAD, 1)),
            Norm.init(width),
            Linear.init(k2, width, 4 * width),
            Linear.init(k3, 4 * width, width, scale=0.0),
        )

    def __call__(self, x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
        b, t, h, w, c = x.shape
        cells = self.norm1(x).reshape(b * t, h * w, c)
        x = x + self.attention(cells, grid_positions(1, h, w)).reshape(x.shape)
        return x + self.out(jax.nn.silu(self.hidden(self.norm2(x))))


class Down(Module):
    """Half the size: neighbours in channels and a product, beside their average where there is a `shortcut`.

    The shortcut takes the mean over groups of the 4 i channels (DC-AE, Chen et al. 2024, section 3.2), so that the
    product learns only what the average misses.
    """

    product: Linear
    shortcut: bool = static()

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h2 w2 o"]:
        folded = space_to_depth(x, 2)
        y = self.product(folded)
        if not self.shortcut:
            return y
        # by channel and then by pixel, so that pixels of one channel are averaged before channels are
        pixels = folded.reshape(*folded.shape[:-1], 4, x.shape[-1]).swapaxes(-1, -2)
        return y + pixels.reshape(*y.shape, -1).mean(-1)


class Up(Module):
    """Twice the size: a product and channels to neighbours, beside a repetition where there is a `shortcut`."""

    product: Linear
    shortcut: bool = static()

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h2 w2 o"]:
        y = self.product(x)
        if self.shortcut:
            pixels = jnp.repeat(x, y.shape[-1] // x.shape[-1], axis=-1)
            pixels = pixels.reshape(*y.shape[:-1], y.shape[-1] // 4, 4).swapaxes(-1, -2)
            y = y + pixels.reshape(y.shape)
        return depth_to_space(y, 2)


class Halve(Module):
    """Half the frames after the first: a causal convolution read at every other frame, beside the mean of the pair."""

    time: TemporalConv

    def chunk(self, x: Float[Array, "b t h w c"], past: Array | None) -> tuple[Float[Array, "b t2 h w c"], Array]:
        """A clip's first chunk has its first frame and pairs, those after it pairs alone."""
        first = past is None
        pairs = (x[:, int(first) :: 2] + x[:, 1 + int(first) :: 2]) / 2
        y, past = self.time.chunk(x, past)
        if first:
            return jnp.concatenate([x[:, :1], pairs], axis=1) + y[:, ::2], past
        return pairs + y[:, 1::2], past


class Double(Module):
    """Twice the frames after the first; the first latent frame gives one frame."""

    pair: Linear

    def __call__(self, x: Float[Array, "b t h w c"], first: bool = True) -> Float[Array, "b t2 h w c"]:
        """`first`: these are a clip's first frames."""
        b, t, h, w, c = x.shape
        y = x[..., None, :] + self.pair(x).reshape(b, t, h, w, 2, c)
        return y.transpose(0, 1, 4, 2, 3, 5).reshape(b, 2 * t, h, w, c)[:, int(first) :]
