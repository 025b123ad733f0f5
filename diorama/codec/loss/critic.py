"""The adversarial phase: a critic that learns to tell patches of real media from decoded ones, and what it asks of the
codec (PatchGAN, Isola et al. 2017; VQGAN, Esser et al. 2021).

With D the critic's map of logits, x media and y what the codec decodes, the critic minimises the hinge loss (Lim & Ye
2017) and a penalty on its gradient at real media (R1, Mescheder et al. 2018):

    mean relu(1 - D(x)) + mean relu(1 + D(y)) + w mean |grad_x D(x)|^2                                        (1)

    |grad D(x)|^2 ~ (D(x + s epsilon) - D(x))^2 / s^2,    epsilon normal                                       (2)

(2) is the finite difference of Lin et al. 2025 ("Diffusion adversarial post-training for one-step video generation"):
its mean over epsilon is the square norm as s -> 0, and it needs no gradient of a gradient. The codec minimises

    -mean D(y)                                                                                                 (3)
"""

from dataclasses import dataclass, field
from itertools import pairwise

import jax
import jax.numpy as jnp

from diorama.core import random
from diorama.core.array import Array, Float, Key, Media, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module, cast
from diorama.net.layers import Norm, SpatialConv, TemporalConv


@dataclass(frozen=True)
class CriticConfig:
    """Sizes of the critic.

    Args:
        widths: channels of each level, every one at half the size of the one before; more levels see larger patches.
        depth: how many of the last levels also look at the frames before and after; they start at zero there, and for a
            still there is nothing to see.
    """

    widths: tuple[int, ...] = (32, 64, 128)
    depth: int = 1

    def __post_init__(self) -> None:
        if not self.widths or not 0 <= self.depth <= len(self.widths):
            raise UserError("a critic has at least one level, and looks along time in no more than it has")

    def init(self, key: Key, media_channels: int) -> "Critic":
        keys = iter(jax.random.split(key, 2 * len(self.widths) + 1))
        return Critic(
            [SpatialConv.init(next(keys), a, b, 4, 2) for a, b in pairwise((media_channels, *self.widths))],
            [Norm.init(width) for width in self.widths[1:]],
            [TemporalConv.init(next(keys), w, w, False, 0.0) for w in self.widths[len(self.widths) - self.depth :]],
            SpatialConv.init(next(keys), self.widths[-1], 1),
        )


class Critic(Module):
    """Media -> a map of logits, positive for what looks real. Norms are of one position, so examples stay apart."""

    levels: list[SpatialConv]
    norms: list[Norm]
    times: list[TemporalConv]
    leave: SpatialConv

    def __call__(self, media: Media) -> Float[Array, "b t h2 w2 1"]:
        x, first = media.astype(self.leave.weight.dtype), len(self.levels) - len(self.times)
        for i, conv in enumerate(self.levels):
            x = conv(x)
            x = jax.nn.leaky_relu(self.norms[i - 1](x) if i else x, 0.2)
            if i >= first:
                x = x + self.times[i - first](x)
        return self.leave(x).astype(jnp.float32)


@dataclass(frozen=True)
class Balanced:
    """The critic's gradient at the decoded media is scaled to `share` of the norm of the other terms' there.

    VQGAN takes both at the decoder's last layer; at its output they differ by that layer only, and nothing has to be
    computed twice. The norms are of a whole batch (of each part of one that is accumulated).
    """

    share: float = 0.5

    def __call__(self, slope: Array, other: Array) -> Array:
        norms = (jnp.sqrt(jnp.sum(jnp.square(x))) for x in (other, slope))
        return self.share * jnp.minimum(next(norms) / (next(norms) + 1e-12), 1e4)


@dataclass(frozen=True)
class Fixed:
    """Equation (3) counts `weight` times."""

    weight: float = 0.01

    def __call__(self, slope: Array, other: Array) -> Array:
        return jnp.float32(self.weight)


@dataclass(frozen=True)
class Adversary:
    """How critic and codec meet.

    Args:
        critic: its sizes. With `Role("critic")` in `Train.roles` it has a learning rate, an optimiser and a limit of
            its gradient of its own; without, those of the codec, and the limit is of both gradients together.
        start: training examples after which the codec hears of the critic.
        lead: how many examples earlier the critic begins to learn.
        pull: how much the codec heeds it.
        penalty, step: w and s of (1) and (2). The default is the product that Lin et al. use.
    """

    critic: CriticConfig = field(default_factory=CriticConfig)
    start: int = 0
    lead: int = 0
    pull: Balanced | Fixed = field(default_factory=Balanced)
    penalty: float = 0.01
    step: float = 0.01

    def __post_init__(self) -> None:
        if self.start < 0 or self.lead < 0 or self.step <= 0:
            raise UserError("an adversary's start and lead are at least 0 and its step is above 0")

    def ask(self, critic: Critic, again: Media, slope: Array, examples: Array) -> tuple[Array, dict[str, Array]]:
        """The gradient of (3) at `again`, as it counts beside `slope`, that of all else; zero before the start."""

        def heard(again: Media) -> tuple[Array, Array, Array]:
            value, wish = jax.value_and_grad(lambda y: -jnp.mean(critic(y)))(again)
            weight = self.pull(wish, slope)
            return weight * wish, value, weight

        def unheard(again: Media) -> tuple[Array, Array, Array]:
            return jnp.zeros_like(again), jnp.float32(jnp.nan), jnp.float32(jnp.nan)

        wish, value, weight = jax.lax.cond(examples >= self.start, heard, unheard, again)
        return wish, {"adversarial": value, "adversarial_weight": weight}

    def judge(
        self, critic: Critic, media: Media, again: Media, ids: UInt32[Array, "b"], key: Key, examples: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Equation (1), of which only the critic may get a gradient; zero before its start, and NaN in the log."""

        def learning(critic: Critic) -> tuple[Array, Array]:
            gap = hinge(critic(media), critic(again))
            return gap, r1(critic, media, ids, key, self.step)

        def waiting(critic: Critic) -> tuple[Array, Array]:
            return jnp.float32(0), jnp.float32(0)

        begun = examples >= max(0, self.start - self.lead)
        gap, penalty = jax.lax.cond(begun, learning, waiting, critic)
        shown = {"critic": gap, "critic_penalty": penalty}
        return gap + self.penalty * penalty, {k: jnp.where(begun, v, jnp.nan) for k, v in shown.items()}


def hinge(real: Array, made: Array) -> Float[Array, ""]:
    """The critic's loss for its logits of real and of made media."""
    return jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + made))


def r1(critic: Critic, media: Media, ids: UInt32[Array, "b"], key: Key, step: float) -> Float[Array, ""]:
    """Equation (2), a mean over logits. In float32: in bfloat16 the difference would be rounding."""
    exact = cast(critic, jnp.float32)
    noise = random.normal(key, ids, media.shape[1:])
    return jnp.mean(jnp.square((exact(media + step * noise) - exact(media)) / step))
