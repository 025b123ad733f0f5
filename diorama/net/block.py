"""The block of the transformer: attention to latents and to what is said, and a perceptron."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from diorama.core.array import Array, Float, Key
from diorama.core.layout import BATCH, place, whole
from diorama.core.module import Module, static
from diorama.net.attend import Grid, Keys, Way, attend_by_place
from diorama.net.attention import CrossAttention, SelfAttention, by_itself
from diorama.net.condition import Context
from diorama.net.layers import Halves, Linear, Norm, rms
from diorama.net.parallel import attend_rows, by_token, flat, from_rows, places_of_rows, to_rows, unflat
from diorama.net.places import Frames, Places, Reach

Activation = Literal["gelu", "swiglu"]


class Perceptron(Module):
    """Two layers with GELU, or three with SwiGLU (Shazeer 2020, arXiv 2002.05202) of as many parameters; zero at
    first."""

    up: Linear
    down: Linear
    opening: Linear | None = None

    @staticmethod
    def init(key: Key, width: int, activation: Activation) -> "Perceptron":
        (k1, k2), k3 = jax.random.split(key), jax.random.fold_in(key, 2)
        hidden = 4 * width if activation == "gelu" else -(-8 * width // 3) // 8 * 8 or 8
        return Perceptron(
            Linear.init(k1, width, hidden, split="out"),
            Linear.init(k2, hidden, width, scale=0.0, split="in"),
            None if activation == "gelu" else Linear.init(k3, width, hidden, split="out"),
        )

    def __call__(self, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
        y = self.up(x)
        return self.down(jax.nn.gelu(y) if self.opening is None else jax.nn.silu(self.opening(x)) * y)


class Beside(Module):
    """Weights of their own for the tokens beside the latents, which attend together with them (MMDiT, Esser et al.
    2024, arXiv 2403.03206).

    Their norms are plain: frames differ in noise level, and a modulated text would carry later frames' levels to
    earlier ones.
    """

    norm1: Norm
    attention: SelfAttention
    norm2: Norm
    perceptron: Perceptron

    @staticmethod
    def init(key: Key, width: int, heads: int, activation: Activation) -> "Beside":
        k1, k2 = jax.random.split(key)
        attention = SelfAttention.init(k1, width, heads)
        return Beside(Norm.init(width), attention, Norm.init(width), Perceptron.init(k2, width, activation))


class Sight(Module):
    """All that a block sees but its tokens; the same for every block.

    embedding: of each frame's noise level and of what is broadcast, after its last nonlinearity; of a pack t = f.
    film: what modulates every block, where blocks share it; 0 where each makes its own of the embedding.
    frames: which of those a token of a pack goes by; None where tokens lie on their frames' grid, or go by their own.
    places: where the tokens lie. beside: where those beside them lie; None if there are none.
    """

    embedding: Float[Array, "b t 1 1 d"]
    film: Float[Array, "b t 1 1 6d"] | float
    context: Context
    frames: Frames | None
    places: Places
    beside: Places | None
    grid: Grid | None = static()
    way: Way = static()

    def spread(self, x: Float[Array, "b t 1 1 k"]) -> Float[Array, "b n 1 1 k"]:
        """What frames have, as tokens take it."""
        return x if self.frames is None else self.frames.tokens(x)


class Block(Module):
    """Self-attention, cross-attention and a perceptron, the first and last modulated by the frame's embedding.

    Modulation is that of Peebles & Xie 2023 (DiT) in another dress: every branch's last layer starts at zero, and so
    each block as the identity. `film` is a layer of the block's own or, where blocks share one, what this one adds
    (PixArt-alpha, arXiv 2310.00426; Wan 2.1).
    """

    film: Linear | Float[Array, "6d"]
    attention: SelfAttention
    norm: Norm | None
    cross: CrossAttention | None
    mixing: Float[Array, "3 3 1 d"] | None
    perceptron: Perceptron
    beside: Beside | None
    reach: Reach = static()

    @property
    def axes(self) -> dict[str, tuple[str | None, ...]]:
        return {"film": (), "mixing": (None,) * 4}

    @staticmethod
    def init(
        key: Key, width: int, heads: int, reach: Reach, *, shared: bool, cross: bool, beside: bool, mixing: bool,
        activation: Activation, film: Halves = "out",
    ) -> "Block":  # fmt: skip
        """`film` None copies that layer to all devices, for embeddings of every token: too many to bring together."""
        k = jax.random.split(key, 6)
        return Block(
            jnp.zeros(6 * width) if shared else Linear.init(k[0], width, 6 * width, scale=0.0, split=film),
            SelfAttention.init(k[1], width, heads),
            Norm.init(width) if cross else None,
            CrossAttention.init(k[2], width, width, heads) if cross else None,
            jax.random.normal(k[3], (3, 3, 1, width)) / 9 if mixing else None,
            Perceptron.init(k[4], width, activation),
            Beside.init(k[5], width, heads, activation) if beside else None,
            reach,
        )

    def __call__(
        self, x: Float[Array, "b t h w d"], beside: Float[Array, "b l d"] | None, sight: Sight,
        memory: Keys | None, alone: Array | None,
    ) -> tuple[Array, Array | None, Array, Array]:  # fmt: skip
        """The tokens and those beside them after this block, and the keys and values of the tokens (b, n, k, e).

        Args:
            x: tokens on their grid; of a pack, t = n and h = w = 1.
            beside: registers and text, where they attend together with the latents.
            memory: keys and values of past frames.
            alone: (b,) as in `SelfAttention`.
        """
        film = self.film(sight.embedding) if isinstance(self.film, Linear) else self.film + sight.film
        film, x = sight.spread(place(film, BATCH, ..., None)), by_token(x)
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(film, 6, axis=-1)
        grid, heads = x.shape[1:4], self.attention.heads
        y = rms(x).astype(x.dtype) * (1 + scale1) + shift1
        position = sight.places.position
        q, k, v = map(to_rows, self.attention.project(y, position.reshape(len(position), *grid, 3)))
        own, extra = Keys(k, v, places_of_rows(sight.places, grid, heads)), None
        if beside is not None:
            assert self.beside is not None
            assert sight.beside is not None
            asked, keys, values = self.beside.attention.project(self.beside.norm1(beside), None)
            extra = Keys(keys, values, sight.beside)
            past = own if self.reach.everywhere else None  # else what they saw would come back to where it must not
            heard = attend_by_place(asked, extra, Reach(), memory=past, way=sight.way)
            beside = beside + self.beside.attention.leave(heard)
            beside = beside + self.beside.perceptron(self.beside.norm2(beside))
        y = by_itself(attend_rows(q, own, self.reach, sight.grid, memory, extra, sight.way), v, alone)
        y = checkpoint_name(from_rows(y, grid), "attention")
        x = x + self.attention.leave(y) * (1 + gate1)
        if self.cross is not None and self.norm is not None and sight.context.tokens is not None:
            mask = sight.context.sees_tokens(sight.places)
            x = x + unflat(self.cross(flat(self.norm(x)), sight.context.tokens, mask), grid)
        y = rms(x).astype(x.dtype) * (1 + scale2) + shift2
        if self.mixing is not None:
            y = y + _depthwise(y, whole(self.mixing, None, None, None, None))
        return x + self.perceptron(y) * (1 + gate2), beside, k, v


def _depthwise(x: Float[Array, "b t h w d"], weight: Float[Array, "3 3 1 d"]) -> Float[Array, "b t h w d"]:
    """Nine shifted products: XLA's grouped convolution is slow on CPU, and this fuses everywhere."""
    h, w = x.shape[2:4]
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(  # type: ignore[return-value]
        padded[:, :, i : i + h, j : j + w] * weight[i, j, 0] for i in range(3) for j in range(3)
    )
