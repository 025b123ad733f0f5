"""Guidance: from one denoiser make another that follows its conditions more closely. Solvers never hear of it.

It compares a strong prediction with a weak one and goes on in that direction, on the pair (x0, epsilon):

    guided = strong + extra (strong - weak),        extra = (scale - 1) when(tau)          (1)

The *reference* says what is weak, for any rule:

- conditions that say nothing: classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598);
- conditions that disturb the network: perturbed attention (Ahn et al. 2024, 2403.17377; `net.condition.Perturbed`);
- another denoiser, a worse one: autoguidance (Karras et al. 2024, 2406.02507).

The *rule* says what to make of the two, one file each; (1) is the plain one. Sizes, angles and spreads are those of
each frame by itself, because each has its own noise time.

Guidance does not sample p_weak (p_strong / p_weak)^scale, though the score at each noise time is that of its noised
parts (Bradley & Nakkiran 2024, 2408.09000): `sample/tilted.py` does.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Self

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.convert import Denoiser
from diorama.process.gaussian import Level, Process, divide, expand
from diorama.process.prediction import Prediction
from diorama.sample.guidance.schedule import AnySchedule, Constant


@dataclass(frozen=True)
class Guidance:
    """A rule that makes one prediction of a strong and a weak one.

    Args:
        scale: how far to go; 1 changes nothing, exactly, under every rule. In a program also one an example (`scaled`).
        when: the noise times at which it acts.
    """

    scale: float = 3.0
    when: AnySchedule = field(default_factory=Constant)

    @classmethod
    def examples(cls) -> "tuple[Guidance, ...]":
        """Settings worth comparing; the defaults if not said otherwise."""
        return (cls(),)

    def scaled(self, scale: Array | float) -> Self:
        """The same rule at another scale, or at one for each example (b,): one compilation then serves all scales."""
        return replace(self, scale=scale)  # type: ignore[arg-type]

    def __call__(self, denoiser: Denoiser, process: Process, reference: Any) -> Denoiser:
        """`denoiser` of `process`, guided away from `reference`.

        `reference` is another denoiser, or conditions: of the structure of those that the denoiser will be given, its
        leaves (1, ...) for all examples or (b, ...). Only the first, with a single scale, lets guidances be nested (the
        inner one sees 2b examples). Then strong and weak are one call of twice the batch. A step in which no frame is
        guided costs the strong evaluation alone.
        """
        if isinstance(self.scale, int | float) and self.scale == 1:
            return denoiser

        def guided(x: Array, tau: Array, conditions: Any) -> Prediction:
            here = process.of(x.shape[1:])
            extra = expand(jnp.asarray(self.scale) - 1.0, tau.ndim) * self.when(here, tau)
            at, wide = here.at(tau, x.ndim), expand(extra, x.ndim).astype(x.dtype)

            def led() -> Prediction:
                return self.lead(denoiser, reference, x, tau, conditions, wide, at)

            if isinstance(self.when, Constant):
                return led()
            return jax.lax.cond(jnp.any(extra != 0), led, lambda: denoiser(x, tau, conditions))

        return guided

    def lead(
        self, denoiser: Denoiser, reference: Any, x: Array, tau: Array, conditions: Any, extra: Array, at: Level
    ) -> Prediction:
        """Ask for what the rule compares, and combine it; `extra` broadcasts against x."""
        if callable(reference):
            strong, weak = denoiser(x, tau, conditions), reference(x, tau, conditions)
        else:
            strong, weak = together(denoiser, x, tau, conditions, like(reference, conditions))
        return self.combine(strong, weak, extra, at, expand(tau, x.ndim))

    def combine(self, strong: Prediction, weak: Prediction, extra: Array, at: Level, tau: Array) -> Prediction:
        """The guided pair; exactly `strong` where `extra` is 0. All arguments broadcast against (b, t, h, w, c)."""
        raise NotImplementedError


def like(reference: Any, conditions: Any) -> Any:
    """`reference` with the shapes and number formats of `conditions`."""
    return jax.tree.map(lambda r, c: jnp.broadcast_to(r, c.shape).astype(c.dtype), reference, conditions)


def together(denoiser: Denoiser, x: Array, tau: Array, *conditions: Any) -> tuple[Prediction, ...]:
    """What `denoiser` says of the same `x` under each of `conditions`, asked in one call."""
    batch = jax.tree.map(lambda *parts: jnp.concatenate(parts), *[(x, tau, each) for each in conditions])
    pair, b = denoiser(*batch), x.shape[0]
    return tuple(jax.tree.map(lambda p: p[i * b : (i + 1) * b], pair) for i in range(len(conditions)))  # noqa: B023


def apart(strong: Prediction, weak: Prediction) -> Prediction:
    """strong - weak: adding any multiple of it to a pair leaves alpha x0 + sigma epsilon as it is."""
    return jax.tree.map(lambda s, w: s - w, strong, weak)


def plus(strong: Prediction, factor: Array, change: Prediction) -> Prediction:
    """strong + factor change."""
    return jax.tree.map(lambda s, d: s + factor * d, strong, change)


def flow(pair: Prediction) -> Array:
    """epsilon - x0: the velocity of rectified flow, which every process is but for its time and scale."""
    return pair.epsilon - pair.x0


def by_flow(strong: Prediction, change: Array, at: Level) -> Prediction:
    """The pair whose flow differs from `strong`'s by `change`; no pole at either end."""
    step = change / (at.alpha + at.sigma)
    return Prediction(strong.x0 - at.sigma * step, strong.epsilon + at.alpha * step)


def by_x0(strong: Prediction, change: Array, at: Level) -> Prediction:
    """The pair whose data differ from `strong`'s by `change`; at sigma = 0 there is no noise to follow them."""
    return Prediction(strong.x0 + change, strong.epsilon - divide(at.alpha * change, at.sigma))


def inner(a: Array, b: Array) -> Array:
    """The inner product of each frame, (b, t, 1, 1, 1)."""
    return (a * b).sum((-3, -2, -1), keepdims=True)
