"""Latents that say what a feature function says: the VF loss of VA-VAE (Yao, Yang & Wang 2025, "Reconstruction vs.
generation: taming optimization dilemma in latent diffusion models").

With z the latents after a learned linear map, f the features at the same places, and m1, m2 the margins:

    mean_i  relu(1 - m1 - cos(z_i, f_i))  +  mean_ij  relu(|cos(z_i, z_j) - cos(f_i, f_j)| - m2)                   (1)

over the places i, j of each latent frame.
"""

from dataclasses import KW_ONLY, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from diorama.codec.loss.learned import OwnFeatures
from diorama.codec.loss.perceptual import TrunkFeatures
from diorama.codec.loss.term import Coded, Term, unit
from diorama.core.array import Array, Float, Key
from diorama.core.module import static


class Alignment(Term):
    """Equation (1), with margins 0.5 and 0.25 and weight 0.1 in the paper. There and here the weight is a share: the
    value is scaled so that its gradient at the latents is to that of the comparisons as `weight` to 1.

    features: where f comes from. After `init`, any callable (b, t, h, w, c) -> (b, t, h2, w2, d) with `width` d.
    near, apart: the margins m1 and m2.
    """

    features: TrunkFeatures | OwnFeatures = OwnFeatures()
    near: float = static(default=0.5)
    apart: float = static(default=0.25)
    _: KW_ONLY
    weight: float = static(default=0.1)

    def init(self, own: Path | None = None) -> Term:
        features: Any = self.features.init(own)
        return replace(self, features=features)

    def __call__(self, coded: Coded, key: Key[Array, ""]) -> Float[Array, ""]:
        assert coded.projection is not None
        z = coded.projection(coded.latents).astype(jnp.float32)
        features: Any = self.features
        f = at_latents(jax.lax.stop_gradient(features(coded.media)), z.shape)
        n, d = z.shape[2] * z.shape[3], z.shape[-1]
        z, f = unit(z).reshape(-1, n, d), unit(f).reshape(-1, n, d)
        near = jax.nn.relu(1 - self.near - jnp.sum(z * f, axis=-1)).mean()
        difference = jnp.einsum("bid,bjd->bij", z, z) - jnp.einsum("bid,bjd->bij", f, f)
        return near + jax.nn.relu(jnp.abs(difference) - self.apart).mean()


def at_latents(features: Array, shape: tuple[int, ...]) -> Float[Array, "b t h w d"]:
    """Features (b, t, h2, w2, d) of media at the places of latents of `shape`: the first frame's for the first, means
    over the frames that a later one stands for, linear interpolation in space."""
    b, t, h, w = shape[:4]
    f = features.astype(jnp.float32)
    if t > 1:
        later = f[:, 1:].reshape(b, t - 1, -1, *f.shape[2:]).mean(2)
        f = jnp.concatenate([f[:, :1], later], axis=1)
    return f if f.shape[2:4] == (h, w) else jax.image.resize(f, (b, t, h, w, f.shape[-1]), "linear")
