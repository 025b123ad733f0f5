"""Denoising with terms on what the network computes on the way."""

from dataclasses import dataclass
from typing import Any

import jax

from diorama.core.array import Array, Key, Shape
from diorama.core.errors import UserError
from diorama.core.module import Module
from diorama.diffusion.align.dispersive import Dispersive
from diorama.diffusion.align.irepa import IREPA
from diorama.diffusion.align.repa import REPA
from diorama.diffusion.align.seen import Seen
from diorama.diffusion.align.self_alignment import SelfAlignment
from diorama.diffusion.denoiser import Denoiser, DenoiserConfig
from diorama.diffusion.objective import Denoising
from diorama.net.condition import Context
from diorama.net.features import layers
from diorama.train import Loss

AnyAlignment = REPA | IREPA | SelfAlignment | Dispersive


class Aided(Module):
    """What is trained where terms have parameters of their own: the denoiser, which alone is released, and those."""

    denoiser: Denoiser
    heads: dict[str, Any]  # by the term's name


def denoiser_of(model: Denoiser | Aided) -> Denoiser:
    """The denoiser of what is trained."""
    return model.denoiser if isinstance(model, Aided) else model


@dataclass(frozen=True)
class Aligned:
    """The denoising loss plus each term's weight times its value, an `Objective` for what `init` makes.

    Args:
        denoising: the loss that it is all for; its noise and times are the same with terms and without.
        terms: no two of one name.
    """

    denoising: Denoising
    terms: tuple[AnyAlignment, ...]

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        if len(set(names)) < len(names):
            raise UserError(f"the terms are {', '.join(names)}: give one of each name")

    @property
    def reads(self) -> bool:
        """Whether a term needs the features of an encoder."""
        return any(term.target for term in self.terms)

    def init(self, key: Key, config: DenoiserConfig, shape: Shape, features: int = 0) -> Denoiser | Aided:
        """A denoiser of latents of `shape` (t, h, w, c), the same as without terms, and the terms' heads, if any has
        parameters. `features`: width of the encoder's. Raises `UserError` for layers that the network does not have."""
        denoiser = config.init(key, shape[-1])
        widths = [found.shape[-1] for found in grids(config, shape)]
        heads = {term.name: term.head(jax.random.fold_in(key, 2 + i), widths, features)  # 0 and 1 are the denoiser's
                 for i, term in enumerate(self.terms)}  # fmt: skip
        heads = {name: head for name, head in heads.items() if head is not None}
        return Aided(denoiser, heads) if heads else denoiser

    def __call__(self, model: Denoiser | Aided, batch: dict[str, Array], key: Key) -> Loss:
        """Args: `batch` as of `Denoising`, and "features" (b, t2, h2, w2, e) where a term needs them."""
        denoiser, heads = denoiser_of(model), model.heads if isinstance(model, Aided) else {}
        noised = self.denoising.noised(denoiser, batch, key)
        prediction, output = denoiser.look(noised.x, noised.tau, noised.signals)
        loss = self.denoising.loss(denoiser, noised, prediction)
        seen = Seen(denoiser, noised, layers(output.intermediates), batch["id"], batch.get("features"))
        keys = [jax.random.fold_in(key, 3 + i) for i in range(len(self.terms))]  # `noised` splits it in 0 to 2
        found = {term.name: term(heads.get(term.name), seen, k) for term, k in zip(self.terms, keys, strict=True)}
        value = loss.value + sum(term.weight * found[term.name] for term in self.terms)
        return Loss(value, loss.metrics | found, loss.each)


def grids(config: DenoiserConfig, shape: Shape) -> list[Any]:
    """The shapes of the features (1, t, h, w, d) of the layers of a denoiser's network, for latents of `shape`."""
    x, level = jax.ShapeDtypeStruct((1, *shape), "float32"), jax.ShapeDtypeStruct((1, shape[0]), "float32")

    def found(key: Key, x: Array, level: Array) -> list[Array]:
        output = config.net.init(key, shape[-1])(x, level, Context())  # conditions change no shape
        return list(layers(output.intermediates))

    return jax.eval_shape(found, jax.random.key(0), x, level)
