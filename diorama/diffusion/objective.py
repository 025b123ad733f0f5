"""The denoising objective: a re-weighted ELBO (Kingma & Gao 2023), one noise time a clip or one a frame."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from diorama.core import random
from diorama.core.array import Array, Float, Key, UInt32
from diorama.diffusion.denoiser import Denoiser
from diorama.process.density import LogitNormal, LogNormal, Spectral, Uniform, UniformLogSNR
from diorama.process.gaussian import Process, expand
from diorama.process.weighting import EDM, ELBO, P2, X0, Epsilon, MinSNR, Sigmoid, V, Velocity, error
from diorama.train import Loss

BANDS = 4  # of noise time, for the log


@dataclass(frozen=True)
class Denoising:
    """E over tau from `density` of `weighting` times the error of the pair (x0, epsilon).

    Args:
        density: which noise times are trained on.
        weighting: how much an error counts at each.
        independent: share of clips whose frames have noise times of their own (diffusion forcing, 2407.01392); of
            these, half have their first frame clean, so that a model learns to go on from a given picture.
    """

    density: Uniform | LogitNormal | LogNormal | UniformLogSNR | Spectral = field(default_factory=LogitNormal)
    weighting: X0 | Epsilon | V | Velocity | EDM | MinSNR | P2 | ELBO | Sigmoid = field(default_factory=Velocity)
    independent: float = 0.0

    def times(self, process: Process, key: Key, ids: UInt32[Array, "b"], frames: int) -> Float[Array, "b t"]:
        """Noise times, from each example's id."""
        k1, k2, k3 = jax.random.split(key, 3)
        shared = jnp.broadcast_to(self.density.sample(process, k1, ids)[:, None], (len(ids), frames))
        if self.independent == 0 or frames == 1:
            return shared
        own = self.density.sample(process, k2, ids, (frames,))
        draw = random.uniform(k3, ids)[:, None]
        own = jnp.where((draw < self.independent / 2) & (jnp.arange(frames) == 0), 0.0, own)
        return jnp.where(draw < self.independent, own, shared)

    def __call__(self, model: Denoiser, batch: dict[str, Array], key: Key) -> Loss:
        """Args: `batch["media"] (b, t, h, w, c)` latents, `batch["id"] (b,)`, and the conditions by name."""
        x0, ids = batch["media"], batch["id"]
        k_tau, k_noise, k_drop = jax.random.split(key, 3)
        tau = self.times(model.process, k_tau, ids, x0.shape[1])
        epsilon = random.normal(k_noise, ids, x0.shape[1:])
        signals = model.conditions.drop(model.conditions.signals(batch), k_drop, ids)
        loss = self.at(model, x0, epsilon, tau, signals)
        band = jnp.clip((tau.mean(1) * BANDS).astype(int), 0, BANDS - 1)
        bands = {f"loss_tau{i}": _mean_where(loss, band == i) for i in range(BANDS)}
        return Loss(loss.mean(), bands)

    def at(self, model: Denoiser, x0: Array, epsilon: Array, tau: Array, signals: dict) -> Float[Array, "b"]:
        """The weighted error of each example at noise times `tau (b, t)` that are given; a clean frame has none."""
        x = model.process.add_noise(x0, epsilon, tau)
        prediction = model(x, tau, signals)
        inner = jnp.where(tau > 0, tau, 0.5)  # weightings may have a pole in data
        weight = jnp.where(tau > 0, self.weighting(model.process, inner), 0.0)
        return (expand(weight, x0.ndim) * error(prediction, x0, epsilon)).mean((1, 2, 3, 4))


def _mean_where(values: Array, where: Array) -> Array:
    """The mean of `values` where it holds; NaN where nowhere."""
    return jnp.where(where.any(), (values * where).sum() / jnp.maximum(where.sum(), 1), jnp.nan)
