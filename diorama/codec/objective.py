"""The objective of codec training: reconstruction and a small Kullback-Leibler term."""

from dataclasses import dataclass

import jax.numpy as jnp

from diorama.codec.codec import pad
from diorama.codec.conv import Autoencoder, ConvCodecConfig
from diorama.core import random
from diorama.core.array import Array, Key
from diorama.core.module import dtype_of
from diorama.train import Loss


@dataclass(frozen=True)
class Reconstruction:
    """mean (x - x_hat)^2 + kl * mean KL(q(z | x) || N(0, 1)) (Kingma & Welling 2014), each a mean over its numbers.

    Args:
        codec: the sizes, for padding.
        kl: weight of the second term; small, for it only keeps the latents' scale and smoothness.
    """

    codec: ConvCodecConfig
    kl: float = 1e-4

    def __call__(self, model: Autoencoder, batch: dict[str, Array], key: Key) -> Loss:
        """Args: `batch["media"] (b, t, h, w, c)` in [-1, 1] and `batch["id"] (b,)`."""
        media = pad(batch["media"], self.codec).astype(dtype_of(model))
        mean, logvar = jnp.split(model.encoder(media), 2, axis=-1)
        logvar = jnp.clip(logvar.astype(jnp.float32), -20, 10)
        noise = random.normal(key, batch["id"], mean.shape[1:])
        latents = mean + (jnp.exp(logvar / 2) * noise).astype(mean.dtype)
        error = jnp.mean(jnp.square((model.decoder(latents) - media).astype(jnp.float32)))
        divergence = jnp.mean(jnp.square(mean.astype(jnp.float32)) + jnp.exp(logvar) - 1 - logvar) / 2
        psnr = 10 * jnp.log10(4 / error)  # the range of media is 2
        return Loss(error + self.kl * divergence, {"mse": error, "kl": divergence, "psnr": psnr})
