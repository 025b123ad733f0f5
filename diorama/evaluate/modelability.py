"""How easily a denoiser learns latents: the loss of a fixed small one after a fixed number of steps."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from diorama.core.array import Array
from diorama.core.module import Module, static
from diorama.core.random import normal, stream
from diorama.diffusion import Denoiser, DenoiserConfig, Denoising
from diorama.net import TransformerConfig, UNetConfig
from diorama.process import Prediction, Process

Latents = Float[np.ndarray, "n t h w c"]


@dataclass(frozen=True)
class Modelability:
    """How a fixed small denoiser takes to latents in a fixed number of steps.

    ratio: its loss on held-back latents over that of a denoiser that knows each channel's mean and variance and nothing
    else; 1 means that nothing was learned. So figures compare between numbers of channels, for normalised latents.
    """

    ratio: float
    loss: float
    steps: int
    n: int


NET = UNetConfig(widths=(32, 64))
# for tokens that lie in a line, not on a grid
LINE = TransformerConfig(width=64, depth=4, patch=(1, 1, 1), mixing=False)
OBJECTIVE = Denoising()
BATCH, STRATA = 32, 8


def modelability(
    train: Latents,
    held: Latents,
    *,
    seed: int,
    steps: int = 400,
    rate: float = 2e-3,
    net: UNetConfig | TransformerConfig = NET,
) -> Modelability:
    """Train the denoiser on latents `train`, without any condition, and measure it on `held` at fixed noise.

    Compare only figures of the same `steps`, `rate` and `net`.
    """
    config = DenoiserConfig(net, conditions={})
    model = _fit(config, jnp.asarray(train, jnp.float32), seed, steps, rate)
    mean, variance = train.mean((0, 1, 2, 3)), train.var((0, 1, 2, 3))
    blind = Blind(jnp.asarray(mean, jnp.float32), jnp.asarray(variance, jnp.float32), config.process)
    loss, other = (_loss(denoiser, held) for denoiser in (model, blind))
    return Modelability(loss / other, loss, steps, len(held))


class Blind(Module):
    """The best denoiser that knows a mean and a variance a channel: x0 = E[x0 | x_tau] of a Gaussian."""

    mean: Float[Array, "c"]
    variance: Float[Array, "c"]
    process: Process = static()

    def __call__(self, x: Array, tau: Array, signals: dict) -> Prediction:
        at = self.process.at(tau, x.ndim)
        gain = at.alpha * self.variance / (at.alpha**2 * self.variance + at.sigma**2)
        return Prediction.of("x0", self.mean + gain * (x - at.alpha * self.mean), x, at)


def _fit(config: DenoiserConfig, latents: Array, seed: int, steps: int, rate: float) -> Denoiser:
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(rate, steps)))
    n = len(latents)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(model: Denoiser, memory: optax.OptState, number: Array) -> tuple[Denoiser, optax.OptState]:
        key = stream(seed, "modelability", number)
        rows = jax.random.randint(key, (BATCH,), 0, n)
        # an example that comes again meets other noise
        batch = {"media": latents[rows], "id": number.astype(jnp.uint32) * BATCH + jnp.arange(BATCH, dtype=jnp.uint32)}
        gradient = jax.grad(lambda m: OBJECTIVE(m, batch, key).value)(model)
        updates, memory = optimiser.update(gradient, memory)
        return optax.apply_updates(model, updates), memory

    model = jax.jit(partial(config.init, channels=latents.shape[-1]))(stream(seed, "modelability/init"))
    memory = optimiser.init(model)
    for number in range(steps):  # not a scan: XLA's CPU convolutions are slower inside loops
        model, memory = step(model, memory, jnp.uint32(number))
    return model


def _loss(denoiser: Denoiser | Blind, latents: Latents) -> float:
    """The mean loss over noise times and clips, the same noise for every denoiser."""
    taus = (np.arange(STRATA) + 0.5) / STRATA
    ids = np.arange(len(latents), dtype=np.uint32)

    @jax.jit
    def at(denoiser: Denoiser | Blind, x0: Array, ids: Array, tau: Array) -> Array:
        epsilon = normal(stream(0, "modelability/noise"), ids, x0.shape[1:])
        return OBJECTIVE.at(denoiser, x0, epsilon, jnp.full(x0.shape[:2], tau), {})  # type: ignore[arg-type]

    parts = [slice(i, i + BATCH) for i in range(0, len(latents), BATCH)]
    losses = [at(denoiser, jnp.asarray(latents[p], jnp.float32), ids[p], tau) for tau in taus for p in parts]
    return float(np.concatenate([np.asarray(loss) for loss in losses]).mean())
