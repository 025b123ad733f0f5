"""A U-Net that preserves magnitudes (EDM2, Karras et al. 2024, arXiv 2312.02696, config G).

Every layer gives about unit variance for unit variance: there is no bias and no norm with learned parts, and nothing
grows in training. Of a weight only the direction counts: it is used at norm 1, and put back to a fixed norm after each
step of training (`projected`). Else it would grow, its gradient being orthogonal to it, and steps whose size does not
depend on it would turn it less and less. So the learning rate alone says how far a step turns each layer: 0.01 turns it
by about 0.01 radians with `AdamW`, and by 0.002 with `Muon`, whose steps are that much smaller. It has to fall in
training (`Cosine`, `InverseSquareRoot`).
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from diorama.core.array import Array, Bool, Float, Key
from diorama.core.layout import whole
from diorama.core.module import Module, Remat, static
from diorama.net.attend import attend
from diorama.net.attention import by_itself, rotary
from diorama.net.condition import Context
from diorama.net.layers import convolve, gate, product, rms
from diorama.net.output import Output
from diorama.net.parallel import unflat
from diorama.net.unet import attentions, block_sizes, by_clip, check_input, check_levels, over, through


@dataclass(frozen=True)
class MagnitudeUNetConfig:
    """Sizes of a magnitude-preserving U-Net; all as of `UNetConfig`."""

    widths: tuple[int, ...] = (64, 128)
    depth: int = 1
    heads: int = 4
    width: int = 128
    causal: bool = False
    attention: tuple[int, ...] = ()
    middle: Literal["joint", "factorised"] = "joint"
    remat: Remat = "none"

    def __post_init__(self) -> None:
        check_levels(self.widths, self.attention, self.heads)

    def init(self, key: Key, channels: int, aligned: int = 0) -> "MagnitudeUNet":
        """A network for latents of `channels`, with `aligned` channels of conditions on their grid."""
        keys = iter(jax.random.split(key, 5 + 2 * self.depth * len(self.widths)))
        down, up = (
            [
                [Block.init(next(keys), *size, side == 0, level in self.attention, self) for size in sizes]
                for level, sizes in levels
            ]
            for side, levels in enumerate(block_sizes(self.widths, self.depth))
        )
        return MagnitudeUNet(
            enter=Conv.init(next(keys), channels + 1 + aligned, self.widths[0]),
            level=Linear.init(next(keys), FEATURES, self.width),
            context=Linear.init(next(keys), self.width, self.width),
            down=down,
            middle=Attend.init(next(keys), self.widths[-1], self.middle == "factorised", self),
            up=up,
            leave=Conv.init(next(keys), self.widths[0], channels),
            gain=jnp.zeros(()),
            remat=self.remat,
        )


# Operations on arrays of unit variance


def mp_silu(x: Array) -> Array:
    """SiLU over the root mean square that it has for a normal x (eq. 81)."""
    return jax.nn.silu(x) / 0.596


def mp_sum(a: Array, b: Array, t: float = 0.3) -> Array:
    """(1 - t) a + t b over its root mean square for independent a and b (eq. 88)."""
    return ((1 - t) * a + t * b) / ((1 - t) ** 2 + t**2) ** 0.5


def mp_cat(a: Float[Array, "... i"], b: Float[Array, "... j"]) -> Float[Array, "... k"]:
    """a and b side by side, so scaled that each counts for half of what follows, however wide it is (eq. 103)."""
    i, j = a.shape[-1], b.shape[-1]
    half = ((i + j) / 2) ** 0.5
    return jnp.concatenate([half / i**0.5 * a, half / j**0.5 * b], axis=-1)


FEATURES = 64  # of the noise level


def mp_fourier(level: Float[Array, "b t"]) -> Float[Array, "b t f"]:
    """sqrt(2) times cosines and sines of 2 pi f u, for u = log(sigma / alpha) / 4, the label of EDM; float32.

    Frequencies are quantiles of a normal law, from which EDM2 draws them (eq. 75), with phases, once: in pairs the mean
    square is 1 exactly, and nothing random has to be kept. Given frames and pure noise, where u is infinite, stand at
    its bounds.
    """
    frequency = jax.scipy.special.ndtri(0.5 + (jnp.arange(FEATURES // 2) + 0.5) / FEATURES)
    level = jnp.clip(level.astype(jnp.float32), 1e-4, 1 - 1e-4)
    angle = 2 * jnp.pi * (jnp.log(level / (1 - level)) / 4)[..., None] * frequency
    return 2**0.5 * jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


# Layers: weights of unit norm, no bias


class Unit(Module):
    """Weights `(..., i, o)` that are used at norm 1 for each output (eq. 47): independent inputs of unit variance give
    unit variance. The taps of a convolution along time, `(3, i, o)`, have norm 1 each.

    They are kept with elements of unit mean square (eq. 66), so that a step turns layers of any size alike.
    """

    weight: Array

    def unit(self) -> Array:
        """What is used; its gradient is orthogonal to the weights. Over `fsdp` the norm is taken before gathering."""
        weight = self.weight.astype(jnp.float32)
        return whole((weight / self._norm(weight)).astype(self.weight.dtype), *(None,) * weight.ndim)

    def projected(self) -> "Unit":
        """The same with elements of unit mean square, with which each step of training ends."""
        norm = self._norm(self.weight)
        return replace(self, weight=self.weight / norm * (self.weight.size / norm.size) ** 0.5)

    @staticmethod
    def _norm(weight: Array) -> Array:
        axes = -2 if weight.ndim == 3 else tuple(range(weight.ndim - 1))
        return jnp.sqrt(jnp.sum(weight * weight, axes, keepdims=True) + 1e-12)


class Linear(Unit):
    """x W over the last axis."""

    @staticmethod
    def init(key: Key, inputs: int, outputs: int) -> "Linear":
        return Linear(jax.random.normal(key, (inputs, outputs)))

    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        return product(x, self.unit())


class Conv(Unit):
    """A 3 x 3 convolution of every frame, zero padded."""

    @staticmethod
    def init(key: Key, inputs: int, outputs: int) -> "Conv":
        return Conv(jax.random.normal(key, (3, 3, inputs, outputs)))

    def __call__(self, x: Float[Array, "b t h w i"]) -> Float[Array, "b t h w o"]:
        return convolve(x, self.unit())


class TemporalConv(Unit):
    """Three taps along time at every position: frames t-2, t-1, t if `causal`, else t-1, t, t+1.

    The sum over those taps that meet a frame of the clip, over the root of their number: a clip's first frames and a
    still keep their magnitude too, and the first frame of a causal clip is what a still would be.
    """

    causal: bool = static(default=False)

    @staticmethod
    def init(key: Key, width: int, causal: bool) -> "TemporalConv":
        return TemporalConv(jax.random.normal(key, (3, width, width)), causal)

    def __call__(self, x: Float[Array, "b t h w d"]) -> Float[Array, "b t h w d"]:
        t, weight = x.shape[1], self.unit()
        past, future = (2, 0) if self.causal else (1, 1)
        if t == 1:
            return product(x, weight[past])
        frames = np.arange(t)[:, None] + np.arange(-past, future + 1)
        met = ((frames >= 0) & (frames < t)).sum(1).astype(np.float32)
        padded = jnp.pad(x, ((0, 0), (past, future), (0, 0), (0, 0), (0, 0)))
        y: Array = sum(product(padded[:, i : i + t], weight[i]) for i in range(3))  # type: ignore[assignment]
        return y * (met**-0.5).astype(x.dtype)[:, None, None, None]


class Attention(Module):
    """Cosine attention: queries, keys and values are normalised, and nothing before them is."""

    q: Linear
    kv: Linear
    out: Linear
    heads: int = static()

    @staticmethod
    def init(key: Key, width: int, source: int, heads: int) -> "Attention":
        k1, k2, k3 = jax.random.split(key, 3)
        return Attention(
            Linear.init(k1, width, width), Linear.init(k2, source, 2 * width), Linear.init(k3, width, width), heads
        )

    def __call__(
        self,
        x: Float[Array, "b n d"],
        source: Float[Array, "b m e"],
        positions: Float[Array, "n 3"] | None,
        mask: Bool[Array, "#b #n m"] | None,
        alone: Bool[Array, "b"] | None = None,
    ) -> Float[Array, "b n d"]:
        """Args: `source` what is seen, `x` itself or tokens; `alone` examples whose tokens see only themselves."""
        b, n, d = x.shape
        q = rms(self.q(x).reshape(b, n, self.heads, -1)).astype(x.dtype)
        kv = rms(self.kv(source).reshape(b, -1, 2 * self.heads, d // self.heads)).astype(x.dtype)
        k, v = jnp.split(kv, 2, axis=2)
        if positions is not None:
            q, k = rotary(q, positions), rotary(k, positions)
        y = checkpoint_name(by_itself(attend(q, k, v, mask), v, alone), "attention")
        return self.out(y.reshape(b, n, d))


# The network


class Attend(Module):
    """As `unet.Attend`: over the cells of all frames, or within frames and then along time; then to the tokens."""

    space: Attention
    time: Attention | None
    cross: Attention
    null: Float[Array, "d"]  # always among the tokens, so that there is somewhere to look
    causal: bool = static()

    @staticmethod
    def init(key: Key, width: int, factorised: bool, config: MagnitudeUNetConfig) -> "Attend":
        k1, k2, k3, k4 = jax.random.split(key, 4)
        return Attend(
            Attention.init(k1, width, width, config.heads),
            Attention.init(k2, width, width, config.heads) if factorised else None,
            Attention.init(k3, width, config.width, config.heads),
            jax.random.normal(k4, (config.width,)),
            config.causal,
        )

    def __call__(self, x: Float[Array, "b t h w d"], context: Context, alone: Array | None) -> Array:
        def residual(attention: Attention) -> Any:
            def call(y: Array, positions: Array, mask: Array | None, alone: Array | None) -> Array:
                return mp_sum(y, attention(y, y, positions, None if mask is None else mask[None], alone))

            return call

        y = over(x, residual(self.space), residual(self.time) if self.time else None, self.causal, alone)
        if context.tokens is not None and context.mask is not None:
            null = jnp.broadcast_to(self.null.astype(x.dtype), (len(x), 1, len(self.null)))
            tokens = rms(jnp.concatenate([null, context.tokens], axis=1)).astype(x.dtype)
            mask = jnp.pad(context.mask, ((0, 0), (1, 0)), constant_values=True)
            y = mp_sum(y, self.cross(y, tokens, None, mask[:, None]))
        return unflat(y, x.shape[1:4])


class Block(Module):
    """Two 3 x 3 convolutions; between them one along time, and the embedding as a scale; then attention (figure 21).

    On the way down x is taken over its root mean square by position; there is no other norm.
    """

    skip: Linear | None
    conv1: Conv
    time: TemporalConv
    film: Linear
    gain: Float[Array, ""]
    conv2: Conv
    attend: Attend | None
    down: bool = static()

    @staticmethod
    def init(key: Key, inputs: int, outputs: int, down: bool, attend: bool, config: MagnitudeUNetConfig) -> "Block":
        k = jax.random.split(key, 6)
        return Block(
            Linear.init(k[0], inputs, outputs) if inputs != outputs else None,
            Conv.init(k[1], outputs if down else inputs, outputs),
            TemporalConv.init(k[2], outputs, config.causal),
            Linear.init(k[3], config.width, outputs),
            jnp.zeros(()),
            Conv.init(k[4], outputs, outputs),
            Attend.init(k[5], outputs, True, config) if attend else None,
            down,
        )

    def __call__(
        self, x: Float[Array, "b t h w i"], embedding: Float[Array, "b t d"], context: Context, alone: Array | None
    ) -> Float[Array, "b t h w o"]:
        straight = x if self.skip is None else self.skip(x)
        if self.down:
            x = straight = rms(straight).astype(x.dtype)
        y = self.conv1(mp_silu(x))
        y = mp_sum(y, self.time(mp_silu(y)))
        y = self.conv2(mp_silu(gate(y, self.gain * self.film(embedding))))
        y = mp_sum(straight, y)
        return y if self.attend is None else self.attend(y, context, alone)


class MagnitudeUNet(Module):
    """`(x, level, context) -> Output`; made by `MagnitudeUNetConfig.init`."""

    enter: Conv
    level: Linear
    context: Linear
    down: list[list[Block]]
    middle: Attend
    up: list[list[Block]]
    leave: Conv
    gain: Float[Array, ""]
    remat: Remat = static(default="none")

    @property
    def attentions(self) -> int:
        """As of `UNet`."""
        return attentions(self)

    def __call__(self, x: Float[Array, "b t h w c"], level: Float[Array, "b t"], context: Context) -> Output:
        """Args: `x` noisy latents of about unit variance; `level` in [0, 1], each frame's own noise level."""
        check_input(x, context, len(self.down))
        embedding = self.level(mp_fourier(level).astype(x.dtype))
        if context.broadcast is not None:
            said = self.context(rms(context.broadcast).astype(x.dtype))
            embedding = mp_sum(embedding, by_clip(said), t=0.5)
        extra = [] if context.aligned is None else [context.aligned]
        x = self.enter(jnp.concatenate([x, jnp.ones_like(x[..., :1]), *extra], axis=-1))  # ones: there is no bias
        x, levels = through(self, x, mp_silu(embedding), context, mp_cat)
        return Output(self.gain * self.leave(x), {"levels": levels})
