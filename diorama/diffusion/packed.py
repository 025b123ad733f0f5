"""The denoising objective for packed clips: what each clip of a row would meet alone, all at once."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Key
from diorama.core.errors import UserError
from diorama.diffusion.denoiser import Denoiser
from diorama.diffusion.objective import Denoising, Noised
from diorama.net.condition import Packed, Signals
from diorama.net.places import Frames, Places
from diorama.process import White
from diorama.process.gaussian import Process
from diorama.train import Loss


@dataclass(frozen=True)
class PackedDenoising:
    """`Denoising` over rows of clips (`data.pack`): every clip meets the noise and noise times that it meets alone.

    The loss is the sum over a row's tokens by the length of the row, so that a long clip counts more than a short one,
    and neither accumulation nor what else is in a row changes what a clip is worth; what is logged by noise time and
    by source goes by clips. With networks that take packs (`Transformer`).

    Args:
        of: density, weighting, and the share of clips with noise times of their own for each frame.
        longest, frames: most tokens and frames that a clip has.
    """

    of: Denoising
    longest: int
    frames: int

    def __post_init__(self) -> None:
        if self.of.stratified:
            raise UserError("noise times of packed clips are drawn clip by clip: set objective.stratified to False")

    def __call__(self, model: Denoiser, batch: dict[str, Array], key: Key) -> Loss:
        """Args: `batch` as `PackedSource` gives it. Raises `UserError` for a process that goes by a clip's shape."""
        x0, segment = batch["media"], batch["segment"]
        b, c = len(x0), x0.shape[-1]
        process = alike(model.process)
        k_tau, k_noise, k_drop = jax.random.split(key, 3)
        ids = batch["clip"].reshape(-1)
        clip = jnp.maximum(segment, 0) + batch["clip"].shape[1] * jnp.arange(b)[:, None]  # (b, n), of all clips
        frame = batch["position"][..., 0].astype(int)
        moving = jnp.zeros(len(ids), int).at[clip].max(frame) > 0  # a still has no frame whose time could be its own
        times = self.of.times(process, k_tau, ids, self.frames)
        times = jnp.where(moving[:, None], times, self.of.times(process, k_tau, ids, 1))
        tau = jnp.where(segment >= 0, times[clip, frame], 0.0)
        # Random numbers go by their count in the clip, so a clip's are the first of as many as the longest needs.
        drawn = process.noise.draw(k_noise, ids, (self.longest, 1, 1, c))
        epsilon = drawn[clip, batch["index"]]
        x = process.add_noise(x0, epsilon, tau)
        given = Noised(x0, epsilon, tau, x, self._signals(model, batch, k_drop, ids))  # type: ignore[arg-type]

        def mean(x: Array) -> Array:  # over each clip
            return jnp.zeros(len(ids)).at[clip].add(x * (segment >= 0)) / held

        held = jnp.zeros(len(ids)).at[clip].add(segment >= 0)
        held = jnp.where(held > 0, held, jnp.nan)
        loss = self.of.loss(model, given, model(given.x, given.tau, given.signals), mean)
        assert loss.each is not None
        metrics = loss.metrics | {"filled": (segment >= 0).mean()}
        return replace(loss, metrics=metrics, each=loss.each.reshape(batch["clip"].shape))

    def _signals(self, model: Denoiser, batch: dict[str, Array], key: Key, ids: Array) -> Packed:
        flat = {name: batch[name].reshape(len(ids), *batch[name].shape[2:]) for name in model.conditions.embedders}
        signals: Signals = model.conditions.drop(model.conditions.signals(flat), key, ids)
        places, frames = Places(batch["position"], batch["segment"]), Frames(batch["frame"], batch["first"])
        return Packed(signals, places, frames)


def alike(process: Process) -> Process:
    """The process, which is that of clips of any shape. Raises `UserError` for one that is not."""
    if process.of((2, 3, 5, 7)) != process or not isinstance(process.noise, White):
        raise UserError("packed clips go through one process with white noise: set no shift by size, and no colour")
    return process
