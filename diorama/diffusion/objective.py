"""The denoising objective: a re-weighted ELBO (Kingma & Gao 2023), one noise time a clip or one a frame."""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from diorama.core import random
from diorama.core.array import Array, Float, Key, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module
from diorama.diffusion.denoiser import Denoiser
from diorama.net.condition import Signals
from diorama.process.density import FromSpectrum, LogitNormal, LogNormal, Spectral, Uniform, UniformLogSNR
from diorama.process.gaussian import Process, expand
from diorama.process.prediction import Prediction
from diorama.process.weighting import EDM, ELBO, P2, X0, Epsilon, MinSNR, Sigmoid, V, Velocity, error
from diorama.train import Loss

BANDS = 4  # of noise time, for the log
AnyDensity = Uniform | LogitNormal | LogNormal | UniformLogSNR | Spectral | FromSpectrum
Mean = Callable[[Array], Array]


def _of_frames(x: Float[Array, "b t"]) -> Float[Array, "b"]:
    return x.mean(1)


class Noised(Module):
    """Clips `x0`, `epsilon` and `x` (b, t, h, w, c) at noise times `tau` (b, t), and their signals by name."""

    x0: Array
    epsilon: Array
    tau: Array
    x: Array
    signals: Signals


@dataclass(frozen=True)
class Denoising:
    """E over tau from `density` of `weighting` times the error of the pair (x0, epsilon).

    A denoiser with `uncertainty` minimises error / e^u + u instead, and logs the error and u apart.

    Args:
        density: which noise times are trained on.
        weighting: how much an error counts at each.
        independent: share of clips whose frames have noise times of their own (diffusion forcing, 2407.01392); of
            these, half have their first frame clean, so that a model learns to go on from a given picture.
        block: how many frames in a row share each of those times: as many as a rollout makes together.
        stratified: spread the clips' noise times over the batch, one in each of b equally likely strata, so that the
            loss varies less from batch to batch. An example's time then depends on the batch that it comes in, though
            on neither devices, order nor accumulation. Frames' own times are drawn one by one all the same.
    """

    density: AnyDensity = field(default_factory=LogitNormal)
    weighting: X0 | Epsilon | V | Velocity | EDM | MinSNR | P2 | ELBO | Sigmoid = field(default_factory=Velocity)
    independent: float = 0.0
    block: int = 1
    stratified: bool = False

    def __post_init__(self) -> None:
        if self.block < 1:
            raise UserError(f"denoiser.objective.block is {self.block}: at least one frame has a noise time of its own")

    def times(
        self, process: Process, key: Key, ids: UInt32[Array, "b"], frames: int, place: Float[Array, "b"] | None = None
    ) -> Float[Array, "b t"]:
        """Noise times, from each example's id and, if they are stratified, its place in the batch.

        `place` is as of `core.random.places`; None where `ids` are the whole batch.
        """
        k1, k2, k3 = jax.random.split(key, 3)
        if self.stratified:
            k_place, k_offset = jax.random.split(k1)
            place = random.places(k_place, ids) if place is None else place
            drawn = self.density.stratified(process, k_offset, place)
        else:
            drawn = self.density.sample(process, k1, ids)
        shared = jnp.broadcast_to(drawn[:, None], (len(ids), frames))
        if self.independent == 0 or frames == 1:
            return shared
        own = self.density.sample(process, k2, ids, (-(-frames // self.block),))
        own = jnp.repeat(own, self.block, axis=1)[:, :frames]
        draw = random.uniform(k3, ids)[:, None]
        own = jnp.where((draw < self.independent / 2) & (jnp.arange(frames) == 0), 0.0, own)
        return jnp.where(draw < self.independent, own, shared)

    def __call__(self, model: Denoiser, batch: dict[str, Array], key: Key) -> Loss:
        """Args: `batch["media"] (b, t, h, w, c)` latents, `batch["id"] (b,)`, and the conditions by name.

        `batch["place"]` is needed where the batch is a part of one, see `Objective`.
        """
        given = self.noised(model, batch, key)
        return self.loss(model, given, model(given.x, given.tau, given.signals))

    def noised(self, model: Denoiser, batch: dict[str, Array], key: Key) -> "Noised":
        """What the denoiser is asked of a batch."""
        x0, ids = batch["media"], batch["id"]
        k_tau, k_noise, k_drop = jax.random.split(key, 3)
        process = model.process.of(x0.shape[1:])
        tau = self.times(process, k_tau, ids, x0.shape[1], batch.get("place"))
        epsilon = process.noise.draw(k_noise, ids, x0.shape[1:])
        signals = model.conditions.drop(model.conditions.signals(batch), k_drop, ids)
        return Noised(x0, epsilon, tau, process.add_noise(x0, epsilon, tau), signals)

    def loss(self, model: Denoiser, given: "Noised", prediction: Prediction, mean: Mean = _of_frames) -> Loss:
        """How far the answer is off, and the same by bands of noise time; `mean` (b, t) -> (n,) is over each example,
        NaN where there is none."""
        process, tau = model.process.of(given.x0.shape[1:]), given.tau
        errors = self._errors(process, prediction, given.x0, given.epsilon, tau)
        each = mean(errors)
        metrics = _by_band("loss", each, mean(tau))
        if model.uncertainty is None:
            return Loss(errors.mean(), metrics, each)
        u = jnp.where(tau > 0, model.uncertainty(process.logsnr(tau)), 0.0)
        return Loss((errors * jnp.exp(-u) + u).mean(), metrics | _by_band("uncertainty", mean(u), mean(tau)), each)

    def at(self, model: Denoiser, x0: Array, epsilon: Array, tau: Array, signals: dict) -> Float[Array, "b"]:
        """The weighted error of each example at noise times `tau (b, t)` that are given; a clean frame has none."""
        process = model.process.of(x0.shape[1:])
        prediction = model(process.add_noise(x0, epsilon, tau), tau, signals)
        return self._errors(process, prediction, x0, epsilon, tau).mean(1)

    def _errors(
        self, process: Process, prediction: Prediction, x0: Array, epsilon: Array, tau: Array
    ) -> Float[Array, "b t"]:
        inner = jnp.where(tau > 0, tau, 0.5)  # weightings may have a pole in data
        weight = jnp.where(tau > 0, self.weighting(process, inner), 0.0)
        return (expand(weight, x0.ndim) * error(prediction, x0, epsilon)).mean((2, 3, 4))


def _by_band(name: str, values: Float[Array, "n"], tau: Float[Array, "n"]) -> dict[str, Array]:
    """The mean of `values` in each band of noise time; NaN in one where there is none."""
    band = jnp.where(jnp.isnan(tau), -1, jnp.clip((tau * BANDS).astype(int), 0, BANDS - 1))
    found = [jnp.where(band == i, values, 0).sum() / jnp.maximum((band == i).sum(), 1) for i in range(BANDS)]
    return {f"{name}_tau{i}": jnp.where((band == i).any(), mean, jnp.nan) for i, mean in enumerate(found)}
