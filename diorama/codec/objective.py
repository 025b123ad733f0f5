"""The objective of codec training: terms of reconstruction, what the bottleneck asks, and a critic."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from diorama.codec.codec import Autoencoder, CodecConfig, on_grid, pad
from diorama.codec.loss.alignment import Alignment
from diorama.codec.loss.critic import Adversary, Critic
from diorama.codec.loss.latents import Equivariance, LatentNoise, LatentSpectrum
from diorama.codec.loss.learned import NetworkConfig, OwnFeatures, OwnPerceptual
from diorama.codec.loss.perceptual import Perceptual
from diorama.codec.loss.pixel import L1, L2, Charbonnier, MultiScale, Wavelet
from diorama.codec.loss.term import Coded, Comparison, Term
from diorama.codec.token import TokenCodecConfig
from diorama.core.array import Array, Float, Key, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module, dtype_of, static
from diorama.net.layers import Linear
from diorama.train import Loss, Objective


class Roles(Module):
    """What is trained where an autoencoder is not trained alone; only it is released.

    critic: of the adversarial phase. projection: of latents to the features that they are aligned to.
    """

    autoencoder: Any  # an `Autoencoder`
    critic: Critic | None
    projection: Linear | None


def autoencoder_of(model: Any) -> Autoencoder:
    """The autoencoder of what is trained."""
    return model.autoencoder if isinstance(model, Roles) else model


@dataclass(frozen=True)
class CodecLoss:
    """What a codec is trained for, beside what its bottleneck asks.

    Args:
        terms: parts of the loss, each with its weight; no two of one name.
        adversary: the adversarial phase, if any.
    """

    terms: tuple[
        L1 | L2 | Charbonnier | MultiScale | Wavelet | Perceptual | OwnPerceptual
        | Equivariance | LatentNoise | LatentSpectrum | Alignment, ...
    ] = (L2(),)  # fmt: skip
    adversary: Adversary | None = None

    def __post_init__(self) -> None:
        names = [term.name for term in self.terms]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"a codec's loss has several terms called '{twice[0]}': give one of each")
        if not any(isinstance(term, Comparison) for term in self.terms):
            raise UserError("a codec's loss compares the decoded media with nothing: add L1() or L2()")

    @property
    def own(self) -> NetworkConfig | None:
        """The perceptual network that has to be fitted to the run's own data first, if a term asks for one."""
        parts = [*self.terms, *(getattr(x, name, None) for x in self.terms for name in ("of", "features"))]
        asked = {x.network for x in parts if isinstance(x, OwnPerceptual | OwnFeatures) and not x.weights}
        if len(asked) > 1:
            raise UserError("the terms of a codec's loss ask for perceptual networks of several sizes: give them one")
        return next(iter(asked), None)

    def suits(self, codec: CodecConfig) -> None:
        """Raises `UserError` for terms that the codec's latents cannot have."""
        for term in self.terms:
            if not on_grid(codec) and isinstance(term, Equivariance | LatentSpectrum | Alignment):
                raise UserError(f"'{term.name}' is for latents that lie as the picture does, not tokens: leave it out")
            if isinstance(codec, TokenCodecConfig) and codec.least and isinstance(term, LatentNoise):
                raise UserError(f"'{term.name}' would add noise to tokens that were dropped: leave it out, or `least`")

    def objective(self, codec: CodecConfig, own: Path | None = None) -> "Reconstruction":
        """The objective, with what the terms need from files. `own` is the release file of the perceptual network
        fitted to the run's own data. Raises `UserError` for files that do not fit, and for terms that need a grid where
        latents are none."""
        self.suits(codec)
        return Reconstruction(codec, tuple(term.init(own) for term in self.terms), self.adversary)


class Reconstruction(Module):
    """The sum of the weighted terms, of the bottleneck's penalty, and of both sides of the adversary.

    One value, one gradient: the critic's loss stops at the decoded media and the codec's at the critic's parameters, so
    each gets the gradient of its own loss alone, and `Train.roles` gives each its own learning rate.

    codec: the sizes, for padding. examples: seen so far; `after` sets it.
    """

    codec: CodecConfig = static()
    terms: tuple[Term, ...] = (L2(),)
    adversary: Adversary | None = static(default=None)
    examples: UInt32[Array, ""] | int = 0

    def init(self, key: Key) -> Any:
        """What is trained: the autoencoder, with the same parameters alone or with others."""
        autoencoder = self.codec.init(key)
        aligned = [term for term in self.terms if isinstance(term, Alignment)]
        if self.adversary is None and not aligned:
            return autoencoder
        k1, k2 = (jax.random.fold_in(key, i) for i in (1, 2))
        critic = self.adversary.critic.init(k1, self.codec.media_channels) if self.adversary else None
        features: Any = aligned[0].features if aligned else None
        return Roles(autoencoder, critic, Linear.init(k2, self.codec.channels, features.width) if aligned else None)

    def after(self, examples: UInt32[Array, ""]) -> Objective:
        """This objective once so many training examples were seen."""
        return replace(self, examples=examples)

    def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> Loss:
        """Args: `batch["media"] (b, t, h, w, c)` in [-1, 1] and `batch["id"] (b,)`."""
        autoencoder = autoencoder_of(model)
        media = pad(batch["media"], self.codec).astype(jnp.float32)
        drawn = autoencoder.draw(media.astype(dtype_of(autoencoder)), batch["id"], key)
        projection = model.projection if isinstance(model, Roles) else None
        again = autoencoder.decode(drawn.latents).astype(jnp.float32)
        coded = Coded(media, drawn.latents, again, batch["id"], autoencoder, projection)
        keys = [jax.random.fold_in(key, 1 + i) for i in range(len(self.terms))]
        shares = [self._share(term, coded, k) for term, k in zip(self.terms, keys, strict=True)]

        def judged(again: Array) -> tuple[Array, dict[str, Array]]:
            seen = replace(coded, again=again)
            values = [term(seen, k) for term, k in zip(self.terms, keys, strict=True)]
            total = sum(s * v for s, v in zip(shares, values, strict=True))
            return jnp.asarray(total), dict(zip((term.name for term in self.terms), values, strict=True))

        value, metrics = judged(again)
        if self.adversary is not None:
            fought, noted = self._fight(model.critic, media, again, judged, batch["id"], jax.random.fold_in(key, 0))
            value, metrics = value + fought, metrics | noted
        error = jnp.mean(jnp.square(again - media))
        psnr = 10 * jnp.log10(4 / error)  # the range of media is 2
        return Loss(value + drawn.penalty, {**metrics, "mse": error, "psnr": psnr, **drawn.metrics})

    def _fight(
        self, critic: Critic, media: Array, again: Array, judged: Any, ids: Array, key: Key
    ) -> tuple[Array, dict[str, Array]]:
        """Both sides of the adversary: the critic's loss, and a term of value zero whose gradient is the codec's."""
        assert self.adversary is not None
        examples, still = jnp.asarray(self.examples), jax.lax.stop_gradient(again)
        slope = jax.lax.stop_gradient(jax.grad(lambda y: judged(y)[0])(still))
        wish, asked = self.adversary.ask(jax.lax.stop_gradient(critic), still, slope, examples)
        loss, seen = self.adversary.judge(critic, media, still, ids, key, examples)
        return loss + jnp.sum(jax.lax.stop_gradient(wish) * (again - still)), asked | seen

    def _share(self, term: Term, coded: Coded, key: Key) -> Float[Array, ""] | float:
        """What a term's value is multiplied by: its weight, that of an alignment relative to the comparisons'."""
        if not isinstance(term, Alignment):
            return term.weight
        still = jax.lax.stop_gradient(coded)

        def compared(latents: Array) -> Array:
            again = still.decode(latents)
            return sum(x.weight * x.compare(again, still.media) for x in self.terms if isinstance(x, Comparison))  # type: ignore[return-value]

        def aligned(latents: Array) -> Array:
            return term(replace(still, latents=latents), key)

        ours, theirs = (_norm(jax.grad(f)(still.latents)) for f in (aligned, compared))
        return term.weight * jnp.minimum(theirs / (ours + 1e-12), 1e4)


def _norm(x: Array) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(jnp.square(x.astype(jnp.float32))))
