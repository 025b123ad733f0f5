"""Attention layers: normalised queries and keys, rotary positions over (t, y, x), rules that are data."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from diorama.core.array import Array, Bool, Float, Key
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.net.attend import attend
from diorama.net.layers import Linear, rms


def check_heads(width: int, heads: int) -> None:
    """Raises `UserError` when `width` does not split into heads of an even number of channels (rotary pairs)."""
    if heads < 1 or width % (2 * heads):
        raise UserError(f"{heads} heads do not divide a width of {width} into even parts: change heads or width")


def frame_mask(positions: Float[Array, "n 3"], causal: bool) -> Bool[Array, "n n"] | None:
    """Who sees whom: everybody, or nobody a later frame."""
    frame = positions[:, 0]
    return frame[None, :] <= frame[:, None] if causal else None


def rotary(x: Float[Array, "b n k e"], positions: Float[Array, "... n 3"]) -> Float[Array, "b n k e"]:
    """Rotate pairs of channels by angles that grow with position (Su et al. 2021), channels split over (t, y, x).

    Each axis gets e/6 frequencies, from one radian a cell down to 1/100; the remaining pairs keep still. `positions`
    may differ between examples.
    """
    cos, sin = _turns(positions, x.shape[-1] // 2)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1).astype(x.dtype)


def _turns(positions: Float[Array, "... n 3"], pairs: int) -> tuple[Array, Array]:
    """Cosines and sines of `rotary`'s angles, (..., n, 1, pairs).

    In a loop over the axes: XLA's CPU compiler otherwise computes them again for every head of every example, where
    they are used, and so four times a block, in which they took 16 times as long as the rotation (docs/log.md).
    """
    each = pairs // 3
    frequency = 100.0 ** (-jnp.arange(each) / max(each, 1))

    def of(axis: Float[Array, "... n"]) -> tuple[Array, Array]:
        angle = axis[..., None] * frequency
        return jnp.cos(angle), jnp.sin(angle)

    def table(turns: Float[Array, "3 ... n each"], still: float) -> Float[Array, "... n 1 pairs"]:
        turns = jnp.concatenate(list(turns), axis=-1)
        rest = [(0, 0)] * (turns.ndim - 1) + [(0, pairs - 3 * each)]
        return jnp.pad(turns, rest, constant_values=still)[..., None, :]

    cos, sin = jax.lax.map(of, jnp.moveaxis(positions, -1, 0))
    return table(cos, 1.0), table(sin, 0.0)


class SelfAttention(Module):
    """Multi-head self-attention with normalised queries and keys and rotary positions.

    `enter` gives query, key and value of the first head, then of the second, ...: so heads can lie on several devices.
    """

    enter: Linear
    out: Linear
    heads: int = static(default=4)

    @staticmethod
    def init(key: Key, width: int, heads: int) -> "SelfAttention":
        k1, k2 = jax.random.split(key)
        enter = Linear.init(k1, width, 3 * width, split="out")
        return SelfAttention(enter, Linear.init(k2, width, width, scale=0.0, split="in"), heads)

    def project(self, x: Float[Array, "b *n d"], positions: Float[Array, "... 3"] | None) -> tuple[Array, Array, Array]:
        """Queries, keys and values `(b, *n, k, e)`; those without positions are not rotated."""
        q, k, v = by_head(self.enter(x), self.heads, 3)
        q, k = rms(q).astype(x.dtype), rms(k).astype(x.dtype)
        return (q, k, v) if positions is None else (rotary(q, positions), rotary(k, positions), v)

    def leave(self, y: Float[Array, "b *n k e"]) -> Float[Array, "b *n d"]:
        """The heads' values together, through the last layer."""
        return self.out(y.reshape(*y.shape[:-2], -1))

    def __call__(
        self,
        x: Float[Array, "b n d"],
        positions: Float[Array, "n 3"],
        mask: Bool[Array, "... n n"] | None = None,
        alone: Bool[Array, "b"] | None = None,
    ) -> Float[Array, "b n d"]:
        """`alone` marks the examples in which every token sees itself only: identity in place of attention."""
        q, k, v = self.project(x, positions)
        n = x.shape[1]
        y = attend(q, k, v, None if mask is None else mask.reshape(-1, n, n))
        return self.leave(checkpoint_name(by_itself(y, v, alone), "attention"))


def by_head(x: Float[Array, "... kpe"], heads: int, parts: int) -> list[Float[Array, "... k e"]]:
    """The `parts` vectors of each head, of channels that hold them head by head."""
    x = x.reshape(*x.shape[:-1], heads, parts, -1)
    return [x[..., i, :] for i in range(parts)]


def by_itself(y: Float[Array, "b n k e"], v: Float[Array, "b n k e"], alone: Bool[Array, "b"] | None) -> Array:
    """What attention gave, or each token's own value in the examples marked."""
    return y if alone is None else jnp.where(alone[:, None, None, None], v, y)


class CrossAttention(Module):
    """Queries from `x`, keys and values from tokens of another kind (text).

    A learned null token is always among the keys, so that a row whose tokens are all masked has somewhere to look.
    """

    q: Linear
    kv: Linear
    out: Linear
    null: Float[Array, "d"]
    heads: int = static(default=4)

    @property
    def axes(self) -> dict[str, tuple[str | None, ...]]:
        return {"null": ()}

    @staticmethod
    def init(key: Key, width: int, tokens_width: int, heads: int) -> "CrossAttention":
        k1, k2, k3 = jax.random.split(key, 3)
        return CrossAttention(
            Linear.init(k1, width, width, split="out"),
            Linear.init(k2, tokens_width, 2 * width, split="out"),
            Linear.init(k3, width, width, scale=0.0, split="in"),
            jnp.zeros(tokens_width),
            heads,
        )

    def __call__(
        self, x: Float[Array, "b n d"], tokens: Float[Array, "b l e"], mask: Bool[Array, "b #n l"]
    ) -> Float[Array, "b n d"]:
        """`mask (b, l)` or `(b, n, l)` says which tokens are seen, by all or by each."""
        b, n, d = x.shape
        null = jnp.broadcast_to(self.null.astype(tokens.dtype), (b, 1, tokens.shape[-1]))
        tokens = jnp.concatenate([null, tokens], axis=1)
        mask = mask[:, None] if mask.ndim == 2 else mask
        mask = jnp.pad(mask, ((0, 0), (0, 0), (1, 0)), constant_values=True)
        k, v = by_head(self.kv(tokens), self.heads, 2)
        q = rms(self.q(x).reshape(b, n, self.heads, d // self.heads)).astype(x.dtype)
        y = attend(q, rms(k).astype(x.dtype), v, mask)
        return self.out(y.reshape(b, n, d))
