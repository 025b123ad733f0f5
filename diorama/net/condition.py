"""Conditions: named signals, and the three ways in which they reach a network.

    broadcast  one vector for all tokens (class, speed)
    tokens     tokens of their own (text, references)
    aligned    channels on the grid of the latents (masks, low-resolution input)

A `Signal` carries its value and whether it is present; an absent one is replaced by a learned null. Dropping a
signal in training and leaving it out for classifier-free guidance are the same act.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core import random
from diorama.core.array import Array, Bool, Float, Int, Key, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module, scan, stack, static
from diorama.net.attention import SelfAttention, check_heads
from diorama.net.layers import Linear, Norm


class Signal(Module):
    """A condition's value `(b, ...)` and for which examples it is present."""

    value: Array
    present: Bool[Array, "b"]


Signals = dict[str, Signal]


def null(signals: Signals) -> Signals:
    """The same signals, none of them present."""
    return {k: Signal(s.value, jnp.zeros_like(s.present)) for k, s in signals.items()}


class Perturbed(Module):
    """Signals for a network of which some self-attention, of some examples, is identity: a worse network.

    Guiding away from it makes structure coherent, with conditions or without (perturbed attention, Ahn et al. 2024,
    arXiv 2403.17377). Examples for which nothing is `alone` get exactly what the network says otherwise.
    """

    signals: Signals
    alone: Bool[Array, "b k"]  # k layers of self-attention, in order


class Context(Module):
    """What the network sees of all signals together; `None` where no signal comes that way."""

    broadcast: Float[Array, "b d"] | None = None
    tokens: Float[Array, "b l d"] | None = None
    mask: Bool[Array, "b l"] | None = None
    aligned: Float[Array, "b t h w k"] | None = None
    alone: Bool[Array, "b k"] | None = None  # as in `Perturbed`


@dataclass(frozen=True)
class LabelConfig:
    """A class of `classes`, broadcast.

    Args:
        classes: how many there are; values are 0 to classes - 1.
        dropout: share of training examples that go without it.
    """

    classes: int = 10
    dropout: float = 0.1

    def init(self, key: Key, width: int) -> "Label":
        return Label(0.02 * jax.random.normal(key, (self.classes + 1, width)))


class Label(Module):
    """An embedding a class; the last row is the null."""

    table: Float[Array, "classes d"]

    def given(self, value: Int[Array, "b"]) -> Bool[Array, "b"]:
        """Which examples have a class at all."""
        return value >= 0

    def __call__(self, value: Int[Array, "b"], present: Bool[Array, "b"]) -> Context:
        return Context(broadcast=self.table[jnp.where(present, value, len(self.table) - 1)])


@dataclass(frozen=True)
class TextConfig:
    """Text as tokens, and their mean as a broadcast vector, by a small transformer trained with the model.

    Args:
        vocabulary: size of the byte-pair vocabulary that is learned from the captions (see `net/text.py`).
        length: tokens kept of a caption.
        depth, heads: of the encoder.
        dropout: share of training examples that go without it.
    """

    vocabulary: int = 1024
    length: int = 16
    depth: int = 1
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.vocabulary < 257:
            raise UserError(f"a vocabulary of {self.vocabulary} cannot hold padding and all bytes: give 257 or more")

    def init(self, key: Key, width: int) -> "Text":
        check_heads(width, self.heads)
        k1, k2, k3, k4 = jax.random.split(key, 4)
        return Text(
            0.5 * jax.random.normal(k1, (self.vocabulary, width)),
            0.1 * jax.random.normal(k2, (self.length, width)),
            stack(lambda k: TextBlock.init(k, width, self.heads), k3, self.depth),
            Norm.init(width),
            0.02 * jax.random.normal(k4, (width,)),
        )


class TextBlock(Module):
    norm1: Norm
    attention: SelfAttention
    norm2: Norm
    up: Linear
    down: Linear

    @staticmethod
    def init(key: Key, width: int, heads: int) -> "TextBlock":
        k1, k2, k3 = jax.random.split(key, 3)
        return TextBlock(
            Norm.init(width),
            SelfAttention.init(k1, width, heads),
            Norm.init(width),
            Linear.init(k2, width, 2 * width),
            Linear.init(k3, 2 * width, width, scale=0.0),
        )

    def __call__(self, x: Float[Array, "b l d"], mask: Bool[Array, "b l l"]) -> Float[Array, "b l d"]:
        still = jnp.zeros((x.shape[1], 3))  # positions are learned and already added
        x = x + self.attention(self.norm1(x), still, mask)
        return x + self.down(jax.nn.silu(self.up(self.norm2(x))))


class Text(Module):
    """Token ids (0 is padding) to one vector a token and their mean."""

    table: Float[Array, "v d"]
    position: Float[Array, "l d"]
    blocks: TextBlock
    norm: Norm
    null: Float[Array, "d"]

    def given(self, value: Int[Array, "b l"]) -> Bool[Array, "b"]:
        """Which examples have any text."""
        return (value != 0).any(-1)

    def __call__(self, value: Int[Array, "b l"], present: Bool[Array, "b"]) -> Context:
        mask = (value != 0) & present[:, None]
        x = self.table[value] + self.position
        visible = mask[:, None, :] | jnp.eye(value.shape[1], dtype=bool)
        x, _ = scan(self.blocks, x, lambda block, x: (block(x, visible), None))
        x = self.norm(x)
        weight = mask.astype(x.dtype)[..., None]
        mean = (x * weight).sum(1) / jnp.maximum(weight.sum(1), 1)
        return Context(jnp.where(present[:, None], mean, self.null), x, mask)


ConditionConfig = LabelConfig | TextConfig


class Conditions(Module):
    """All signals of a model, by name."""

    embedders: dict[str, Label | Text]
    dropout: dict[str, float] = static()

    @staticmethod
    def init(key: Key, configs: dict[str, ConditionConfig], width: int) -> "Conditions":
        keys = jax.random.split(key, max(len(configs), 1))
        modules = {n: c.init(k, width) for (n, c), k in zip(sorted(configs.items()), keys, strict=False)}
        return Conditions(modules, _Frozen({n: c.dropout for n, c in sorted(configs.items())}))

    def drop(self, signals: Signals, key: Key, ids: UInt32[Array, "b"]) -> Signals:
        """Training's dropout, each signal and example on its own."""
        out = {}
        for i, (name, signal) in enumerate(sorted(signals.items())):
            keep = random.uniform(jax.random.fold_in(key, i), ids) >= self.dropout[name]
            out[name] = Signal(signal.value, signal.present & keep)
        return out

    def signals(self, batch: dict[str, Array]) -> Signals:
        """The conditions that lie in a batch under their names; a label of -1 or an empty text is absent."""
        return {name: Signal(batch[name], module.given(batch[name])) for name, module in self.embedders.items()}

    def __call__(self, signals: Signals | Perturbed) -> Context:
        if isinstance(signals, Perturbed):
            return replace(self(signals.signals), alone=signals.alone)
        parts = [self.embedders[name](s.value, s.present) for name, s in sorted(signals.items())]
        return Context(
            broadcast=_fold([p.broadcast for p in parts], lambda xs: sum(xs)),
            tokens=_fold([p.tokens for p in parts], lambda xs: jnp.concatenate(xs, axis=1)),
            mask=_fold([p.mask for p in parts], lambda xs: jnp.concatenate(xs, axis=1)),
            aligned=_fold([p.aligned for p in parts], lambda xs: jnp.concatenate(xs, axis=-1)),
        )


class _Frozen(dict):  # type: ignore[type-arg]
    """A dict that can be part of a tree's structure."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


def _fold(items: list[Any], join: Any) -> Any:
    have = [x for x in items if x is not None]
    return join(have) if have else None
