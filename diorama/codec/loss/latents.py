"""Terms on latents: what makes them easy to model, beside faithful."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec.loss.learned import OwnPerceptual
from diorama.codec.loss.perceptual import Perceptual
from diorama.codec.loss.pixel import L1, L2, Charbonnier, MultiScale, Wavelet
from diorama.codec.loss.term import Coded, Term
from diorama.core import random
from diorama.core.array import Array, Float, Key
from diorama.core.errors import UserError
from diorama.core.module import static
from diorama.process.spectrum import rapsd

Judge = L1 | L2 | Charbonnier | MultiScale | Wavelet | Perceptual | OwnPerceptual


class Equivariance(Term):
    """Decoding latents that were scaled by s and turned by k quarters gives the media so scaled and turned:

        of(decode(R^k S_s z), R^k S_s x)

    (EQ-VAE, Kouzelis et al. 2025; scales 0.25, 0.5, 0.75 and quarter turns there.) s and k are drawn once a step, for
    shapes depend on them; all that were declared are compiled. S is linear interpolation, antialiased.

    of: the comparison. scales, turns: what is drawn from.
    """

    of: Judge = L2()
    scales: tuple[float, ...] = static(default=(0.25, 0.5, 0.75))
    turns: tuple[int, ...] = static(default=(0, 1, 2, 3))

    def __check_init__(self) -> None:
        if not self.scales or not all(0 < s <= 1 for s in self.scales):
            raise UserError(f"scales={self.scales}: give at least one, above 0 and at most 1")
        if not self.turns or not set(self.turns) <= {0, 1, 2, 3}:
            raise UserError(f"turns={self.turns}: give quarter turns, from 0 to 3")

    def init(self, own: Path | None = None) -> Term:
        return replace(self, of=self.of.init(own))  # type: ignore[arg-type]

    def __call__(self, coded: Coded, key: Key[Array, ""]) -> Float[Array, ""]:
        k1, k2 = jax.random.split(key)
        scale = jax.random.randint(k1, (), 0, len(self.scales))
        turn = jnp.array(self.turns)[jax.random.randint(k2, (), 0, len(self.turns))]
        h, w = coded.latents.shape[2:4]
        odds = [None] if h == w else sorted({turn % 2 for turn in self.turns})  # odd turns of an oblong: another shape

        def branch(s: float, odd: int | None) -> Float[Array, ""]:
            size = max(1, round(s * h)), max(1, round(s * w))
            cell = coded.media.shape[2] // h, coded.media.shape[3] // w
            z = _turned(_resized(coded.latents, size), turn, odd)
            x = _turned(_resized(coded.media, (size[0] * cell[0], size[1] * cell[1])), turn, odd)
            return self.of.compare(coded.decode(z), x)

        branches = [lambda s=s, odd=odd: branch(s, odd) for s in self.scales for odd in odds]
        return jax.lax.switch(scale * len(odds) + (turn % 2 if len(odds) > 1 else 0), branches)


class LatentNoise(Term):
    """Decoding latents with noise still gives the media: of(decode(z + sigma rms(z) epsilon), x), epsilon normal, sigma
    drawn from [0, `most`] for each example, the root mean square of its own latents (after RAE, Zheng et al. 2025).

    The scale is that of the latents, so larger latents are no way around it.
    """

    of: Judge = L2()
    most: float = static(default=0.5)

    @property
    def name(self) -> str:
        return "latent_noise"

    def init(self, own: Path | None = None) -> Term:
        return replace(self, of=self.of.init(own))  # type: ignore[arg-type]

    def __call__(self, coded: Coded, key: Key[Array, ""]) -> Float[Array, ""]:
        k1, k2 = jax.random.split(key)
        z = coded.latents.astype(jnp.float32)
        scale = jnp.sqrt(jnp.mean(jnp.square(z), axis=(1, 2, 3, 4), keepdims=True))
        sigma = self.most * random.uniform(k1, coded.ids, (1, 1, 1, 1))
        noise = random.normal(k2, coded.ids, z.shape[1:])
        return self.of.compare(coded.decode(z + sigma * jax.lax.stop_gradient(scale) * noise), coded.media)


class LatentSpectrum(Term):
    """The latents' power spectrum, averaged over rings, is kept a power law P(k) ~ k^-exponent, as that of natural
    images is: the mean over channels of the variance over rings k of

        log P(k) + exponent log k

    What an autoencoder adds at high frequencies, a denoiser has to model without any gain (Skorokhodov et al. 2025,
    "Improving the diffusability of autoencoders"). P is the mean over the batch and its frames, so the value depends a
    little on how a batch is parted. The level of the spectrum is free.
    """

    exponent: float = static(default=2.0)

    @property
    def name(self) -> str:
        return "latent_spectrum"

    def __call__(self, coded: Coded, key: Key[Array, ""]) -> Float[Array, ""]:
        z = coded.latents.astype(jnp.float32)
        if min(z.shape[2:4]) < 4:
            raise UserError(f"latents of {z.shape[2]} x {z.shape[3]} have no spectrum to keep: give larger media")
        power = rapsd(z).mean((0, 1))
        k = np.arange(1, power.shape[0] + 1)[:, None]
        return jnp.mean(jnp.var(jnp.log(power + 1e-10) + self.exponent * np.log(k), axis=0))


def _resized(x: Array, size: tuple[int, int]) -> Array:
    if x.shape[2:4] == size:
        return x
    return jax.image.resize(x.astype(jnp.float32), (*x.shape[:2], *size, x.shape[-1]), "linear")


def _turned(x: Array, turn: Array, odd: int | None) -> Array:
    """`x (b, t, h, w, c)` by `turn` quarters, of which only the parity may decide on the shape: `odd`, or None where
    both have one shape."""
    half = jnp.where(turn >= 2, x[:, :, ::-1, ::-1], x)
    if odd is None:
        return jnp.where(turn % 2 == 1, jnp.rot90(half, axes=(2, 3)), half)
    return jnp.rot90(half, axes=(2, 3)) if odd else half
