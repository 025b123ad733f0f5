"""A space-time transformer on latents (Peebles & Xie 2023, DiT): the denoiser that scales.

Patches become tokens with rotary positions over (t, y, x); each frame's noise level modulates its own tokens (adaptive
layer norm, started at zero); text comes in by cross-attention, or attends together with the latents. How far a token
sees is said layer by layer: whole clips, causal time, space and time in turn, windows. `mixing` adds a depth-wise 3 x 3
convolution to every block, and `previous` the frame before to every token: with both, small transformers learn motion
in minutes.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Float, Key
from diorama.core.errors import UserError
from diorama.core.module import Module, Remat, scan, stack, static
from diorama.net.attend import Keys, Way
from diorama.net.attention import check_heads
from diorama.net.block import Activation, Block, Sight
from diorama.net.condition import Context
from diorama.net.head import Head, HeadConfig
from diorama.net.layers import Linear, NoiseLevel, depth_to_space, rms, space_to_depth
from diorama.net.output import Output
from diorama.net.parallel import by_token
from diorama.net.places import Places, Reach


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a transformer.

    Args:
        width, depth, heads: of the blocks; `width` is also that of the conditions.
        patch: latent cells along (t, h, w) that are one token.
        reach: how far tokens see, layer by layer in turn; distances are in tokens. `(Reach(future=0),)` is causal in
            time; `(Reach(past=0, future=0), Reach(rows=0, columns=0))` is space and time in turn.
        text: whether tokens of text are asked by cross-attention, attend together with the latents, with weights of
            their own, or are none.
        registers: learned tokens that attend together with the latents (Darcet et al. 2024, arXiv 2309.16588).
        modulation: whether each block makes its own of the embedding, or adds to one that all share, with a quarter
            fewer parameters.
        activation: of the perceptrons.
        mixing: a depth-wise 3 x 3 convolution over each frame's tokens in every block.
        previous: the tokens of the frame before are added to each frame's.
        skip: blocks of the second half also get what came out of their mirror image in the first (U-ViT, Bao et al.
            2023, arXiv 2209.12152).
        head: wide blocks at the end that see the noisy latents once more, for latents of many channels.
        attention: how it is computed (`diorama.net.attend`).
        remat: what the backward pass keeps of a block: "none" (all), "dots" (matrix products), "attention" (what that
            gave), "full" (nothing).
    """

    width: int = 128
    depth: int = 6
    heads: int = 4
    patch: tuple[int, int, int] = (1, 2, 2)
    reach: tuple[Reach, ...] = (Reach(),)
    text: Literal["cross", "joint", "none"] = "cross"
    registers: int = 0
    modulation: Literal["own", "shared"] = "own"
    activation: Activation = "gelu"
    mixing: bool = True
    previous: bool = True
    skip: bool = False
    head: HeadConfig | None = None
    attention: Way = "auto"
    remat: Remat = "none"

    def __post_init__(self) -> None:
        check_heads(self.width, self.heads)
        turns = len(self.reach) * (2 if self.skip else 1)
        if not self.reach or self.depth < 1 or self.depth % turns:
            raise UserError(
                f"{self.depth} blocks do not divide into {turns} parts, {len(self.reach)} kinds of reach"
                f"{' in two halves' if self.skip else ''}: change net.depth, net.reach or net.skip"
            )
        if len(self.patch) != 3 or min(self.patch) < 1 or self.registers < 0:
            raise UserError(
                "net.patch has a size of at least 1 for each of t, h and w, and net.registers is at least 0"
            )

    @property
    def causal(self) -> bool:
        """No frame sees one of a later block (`together`)."""
        return all(r.future == 0 for r in self.reach)

    @property
    def together(self) -> int:
        """How many frames are one block: a clip is made of whole ones, frame by frame where that is 1."""
        return self.patch[0] * math.lcm(*(r.block for r in self.reach))

    def init(self, key: Key, channels: int, aligned: int = 0) -> "Transformer":
        """A network for latents of `channels`, with `aligned` channels of conditions on their grid."""
        k = jax.random.split(key, 9)
        d, cells = self.width, self.patch[0] * self.patch[1] * self.patch[2]
        beside, turns = self.text == "joint" or self.registers > 0, len(self.reach)

        def block(key: Key, reach: Reach) -> Block:
            return Block.init(
                key, d, self.heads, reach, shared=self.modulation == "shared", cross=self.text == "cross",
                beside=beside, mixing=self.mixing, activation=self.activation,
            )  # fmt: skip

        keys = jax.random.split(k[4], turns)
        blocks = tuple(
            stack(partial(block, reach=reach), key, self.depth // turns)
            for key, reach in zip(keys, self.reach, strict=True)
        )
        joins = stack(lambda key: Linear.init(key, d, d, scale=0.0), k[7], self.depth // 2) if self.skip else None
        return Transformer(
            enter=Linear.init(k[0], cells * (channels + aligned), d),
            previous=Linear.init(k[1], d, d, scale=0.5) if self.previous else None,
            level=NoiseLevel.init(k[2], d),
            context=Linear.init(k[3], d, d),
            registers=0.02 * jax.random.normal(k[8], (self.registers, d)) if self.registers else None,
            shared=Linear.init(k[8], d, 6 * d, scale=0.0, split="out") if self.modulation == "shared" else None,
            blocks=blocks,
            joins=joins,
            film=Linear.init(k[5], d, 2 * d, scale=0.0) if self.head is None else None,
            leave=Linear.init(k[6], d, cells * channels, scale=0.0) if self.head is None else None,
            head=None
            if self.head is None
            else self.head.init(k[6], self, cells * (channels + aligned), cells * channels),
            config=self,
        )


class Transformer(Module):
    """`(x, level, context) -> Output`; made by `TransformerConfig.init`.

    Its intermediates are `blocks` (depth, b, t, h, w, d), the tokens after each block; `keys` and `values`
    (depth, b, n, k, e), and `entered` (b, t, h, w, d), of which a `Memory` is made.
    """

    enter: Linear
    previous: Linear | None
    level: NoiseLevel
    context: Linear
    registers: Float[Array, "r d"] | None
    shared: Linear | None
    blocks: tuple[Block, ...]
    joins: Linear | None
    film: Linear | None
    leave: Linear | None
    head: Head | None
    config: TransformerConfig = static()

    @property
    def fixed(self) -> tuple[str, ...]:
        """As of `train.optimizer.Fixed`."""
        return ("enter", "registers")

    @property
    def attentions(self) -> int:
        """How many layers of self-attention there are."""
        return self.config.depth

    def __call__(self, x: Float[Array, "b t h w c"], level: Float[Array, "b t"], context: Context) -> Output:
        """Args: `x` noisy latents of about unit variance; `level` in [0, 1], each frame's own noise level.

        In a pack (`context.places`) t counts tokens, and h = w = 1; `level` is each token's, alike within a frame.
        """
        patch = self.config.patch
        self._check(x, context)
        embedding = self._embedding(level, context)
        if context.aligned is not None:
            x = jnp.concatenate([x, context.aligned], axis=-1)
        cells = _fold(x, patch)
        entered = by_token(self.enter(cells))
        x = entered
        if self.previous is not None:
            before = jnp.zeros_like(x[:, :1]) if context.memory is None else context.memory.previous
            x = x + self.previous(jnp.concatenate([before, x[:, :-1]], axis=1))
        _, t, h, w, _ = x.shape
        grid = None if context.places is not None else (t, h, w)
        places = context.places or Places.grid(t, h, w, 0 if context.memory is None else context.memory.frames[0])
        beside, beside_places = self._beside(context, x)
        shared = 0.0 if self.shared is None else self.shared(embedding)
        sight = Sight(embedding, shared, context, context.frames, places, beside_places, grid, self.config.attention)
        x, features, keys, values = self._run(x, beside, sight, context)
        if self.head is not None:
            x = self.head(cells, x, embedding, sight, self.config.remat)
        else:
            assert self.film is not None
            assert self.leave is not None
            scale, shift = jnp.split(sight.spread(self.film(embedding)), 2, axis=-1)
            x = self.leave(rms(x).astype(x.dtype) * (1 + scale) + shift)
        found = {"blocks": features, "keys": keys, "values": values, "entered": entered}
        return Output(_unfold(x, patch), found)

    def _check(self, x: Array, context: Context) -> None:
        """Raises `UserError` for what this network cannot take."""
        sizes, patch = x.shape[1:4], self.config.patch
        if any(size % p for size, p in zip(sizes, patch, strict=True)):
            raise UserError(
                f"latents of {sizes[1]}x{sizes[2]} in {sizes[0]} frames do not divide into tokens of "
                f"{patch[1]}x{patch[2]} in {patch[0]}: set net.patch to (1, 1, 1), or give clips sides that do"
            )
        if context.places is not None and (self.config.mixing or self.config.previous or patch != (1, 1, 1)):
            raise UserError(
                "packed clips need a network with net.patch=(1, 1, 1), net.mixing=false, net.previous=false"
            )
        if context.tokens is not None and self.config.text == "none":
            raise UserError("there is a text to say and the network hears none: set net.text to cross or joint")
        if context.memory is not None and not self.config.causal:
            raise UserError("only a network that is causal in time goes on from past frames: give it Reach(future=0)")
        if context.memory is not None and sizes[0] % self.config.together:
            raise UserError(f"{sizes[0]} frames are no whole blocks of {self.config.together}: go on by whole blocks")

    def _embedding(self, level: Float[Array, "b t"], context: Context) -> Float[Array, "b t 1 1 d"]:
        """Of noise levels (of a token of several frames, their mean) and what is broadcast; of a pack by its frames."""
        if context.frames is not None:
            level = context.frames.each(level)
        b, t = level.shape
        embedding = self.level(level).reshape(b, t // self.config.patch[0], self.config.patch[0], -1).mean(2)
        if context.broadcast is not None:
            said = self.context(context.broadcast)
            embedding = embedding + (said[:, None] if said.ndim == 2 else said)
        return jax.nn.silu(embedding)[:, :, None, None]

    def _beside(self, context: Context, x: Array) -> tuple[Array | None, Places | None]:
        """Registers and, where it attends together with the latents, text."""
        b = len(x)
        parts, segments = [], []
        if self.registers is not None:
            if context.places is not None:
                raise UserError("registers belong to one clip, and a pack has several: set net.registers to 0")
            parts.append(jnp.broadcast_to(self.registers, (b, *self.registers.shape)))
            segments.append(jnp.zeros((b, len(self.registers)), int))
        if self.config.text == "joint" and context.tokens is not None:
            parts.append(context.tokens)
            segments.append(context.token_segments())
        if not parts:
            return None, None
        return jnp.concatenate(parts, axis=1), Places.nowhere(jnp.concatenate(segments, axis=1))

    def _run(self, x: Array, beside: Array | None, sight: Sight, context: Context) -> tuple[Array, Array, Array, Array]:
        """All blocks; the tokens, and of each block what came out, the keys and the values."""
        turns, depth = len(self.blocks), self.config.depth

        def by_turn(a: Array | None) -> Any:  # (depth, ...) -> (depth / turns, turns, ...)
            return None if a is None else a.reshape(depth // turns, turns, *a.shape[1:])

        memory = context.memory
        past = (None, None) if memory is None else tuple(map(by_turn, memory.turned()))
        alone = None if context.alone is None else by_turn(context.alone.T)

        def call(layers: Any, state: Any) -> tuple[Any, Any]:
            blocks, alone, (keys, values), joins, mirrored = layers
            x, beside = state
            out = []
            for i, block in enumerate(blocks):
                if joins is not None:
                    x = x + jax.tree.map(lambda p, i=i: p[i], joins)(rms(mirrored[i]).astype(x.dtype))
                seen = None if memory is None else Keys(keys[i], values[i], memory.places)
                x, beside, k, v = block(x, beside, sight, seen, None if alone is None else alone[i])
                out.append((x, k, v))
            return (x, beside), jax.tree.map(lambda *xs: jnp.stack(xs), *out)

        layers = (self.blocks, alone, past)
        remat = self.config.remat
        if self.joins is None:
            (x, _), out = scan((*layers, None, None), (x, beside), call, remat)
        else:
            half = depth // turns // 2
            first, second = (jax.tree.map(lambda a, s=s: a[s], layers) for s in (slice(half), slice(half, None)))
            state, out = scan((*first, None, None), (x, beside), call, remat)
            mirrored = out[0][::-1, ::-1]
            joins = jax.tree.map(lambda a: a.reshape(half, turns, *a.shape[1:]), self.joins)
            (x, _), rest = scan((*second, joins, mirrored), state, call, remat)
            out = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), out, rest)
        return x, *(a.reshape(depth, *a.shape[2:]) for a in out)


def _fold(x: Float[Array, "b t h w c"], patch: tuple[int, int, int]) -> Float[Array, "b t2 h2 w2 c2"]:
    """Neighbours of a patch into channels; `patch[1:]` is usually a square, which has a short way."""
    p, q, r = patch
    if p == 1 and q == r:
        return space_to_depth(x, q)
    b, t, h, w, c = x.shape
    x = x.reshape(b, t // p, p, h // q, q, w // r, r, c).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(b, t // p, h // q, w // r, p * q * r * c)


def _unfold(x: Float[Array, "b t h w c"], patch: tuple[int, int, int]) -> Float[Array, "b t2 h2 w2 c2"]:
    """The inverse of `_fold`."""
    p, q, r = patch
    if p == 1 and q == r:
        return depth_to_space(x, q)
    b, t, h, w, c = x.shape
    x = x.reshape(b, t, h, w, p, q, r, c // (p * q * r)).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(b, t * p, h * q, w * r, c // (p * q * r))
