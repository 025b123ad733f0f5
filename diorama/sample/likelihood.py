"""How likely a model finds a clip: the change of volume along its probability-flow ODE.

In the variance-exploding coordinates y = x / alpha and u = log(sigma / alpha) the ODE of every process is
dy/du = e^u epsilon, so along it (Song et al. 2021, arXiv 2011.13456, section 4.3; Chen et al. 2018, 1806.07366)

    log p(y at u_min) = log prior(y at u_max) + integral of tr(d(e^u epsilon)/dy) du       (1)

integrated by the rule of Runge and Kutta, fourth order. The clip is taken for one of the data noised by e^u_min.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core import random
from diorama.core.array import Array, Float, UInt32
from diorama.core.errors import UserError
from diorama.core.module import Module
from diorama.core.random import stream
from diorama.process.gaussian import Process, expand
from diorama.process.noise import White
from diorama.sample.solver import Denoise


@dataclass(frozen=True)
class Exact:
    """The whole trace, by as many derivatives as a clip has values: for small ones."""

    def directions(self, x: Array, ids: UInt32[Array, "b"]) -> Float[Array, "n b t h w c"]:
        """Along which to differentiate: every value."""
        every = jnp.eye(x[0].size, dtype=x.dtype).reshape(-1, 1, *x.shape[1:])
        return jnp.broadcast_to(every, (len(every), *x.shape))

    def gather(self, slopes: Float[Array, "n b"]) -> Float[Array, "k b"]:
        """One estimate of the trace."""
        return slopes.sum(0, keepdims=True)

    def error(self, estimates: Float[Array, "k b"]) -> Float[Array, "b"]:
        return jnp.zeros_like(estimates[0])


@dataclass(frozen=True)
class Hutchinson:
    """The mean of v . J v over `probes` v of random signs, each example's own and the same all the way.

    FFJORD (Grathwohl et al. 2018, arXiv 1810.01367). Unbiased; the error is that of a mean of independent estimates.
    """

    probes: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.probes < 2:
            raise UserError(f"probes={self.probes}: at least 2, for one says nothing of its error")

    def directions(self, x: Array, ids: UInt32[Array, "b"]) -> Float[Array, "n b t h w c"]:
        u = random.uniform(stream(self.seed, "likelihood/probes"), ids, (self.probes, *x.shape[1:]))
        return jnp.moveaxis(jnp.where(u < 0.5, -1.0, 1.0).astype(x.dtype), 1, 0)

    def gather(self, slopes: Float[Array, "n b"]) -> Float[Array, "k b"]:
        return slopes

    def error(self, estimates: Float[Array, "k b"]) -> Float[Array, "b"]:
        return estimates.std(0, ddof=1) / jnp.sqrt(len(estimates))


@dataclass(frozen=True)
class Normal:
    """The law of the data at the process's end, N(mean, variance + sigma^2) in y, from the data's own moments.

    To leave the variance out, as in N(0, sigma^2), is wrong by about D variance / 2 sigma^2 nats, in two dimensions at
    sigma = 80 some 7e-5 where all the rest is exact to 3e-6. `variance` None is sigma_data^2, that of normalised
    latents; the true law at the end is that of real data, noised, of which two moments are all that is used.
    """

    mean: float = 0.0
    variance: float | None = None

    def __call__(self, process: Process, y: Array, sigma: float) -> Float[Array, "b"]:
        """log density of `y` (b, t, h, w, c)."""
        values = y[0].size * np.log(2 * np.pi * self.total(process, sigma))
        return -0.5 * ((self.standard(process, y, sigma) ** 2).sum((1, 2, 3, 4)) + values)

    def standard(self, process: Process, y: Array, sigma: float) -> Array:
        """`y` less the mean, over its deviation: of unit variance where the prior is right."""
        return (y - self.mean) / np.sqrt(self.total(process, sigma))

    def total(self, process: Process, sigma: float) -> float:
        """The variance of data and noise together."""
        return sigma**2 + (process.sigma_data**2 if self.variance is None else self.variance)


class Likelihood(Module):
    """What `likelihood` returns."""

    log_density: Float[Array, "b"]  # in nats, of the whole clip as the model sees it (latents)
    error: Float[Array, "b"]  # the standard error of the trace alone
    noise: Float[Array, "b t h w c"]  # where the clip arrives, of unit variance under the prior


def likelihood(
    denoise: Denoise,
    process: Process,
    x: Float[Array, "b t h w c"],
    ids: UInt32[Array, "b"],
    *,
    trace: Exact | Hutchinson,
    steps: int = 128,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    prior: Normal = Normal(),
) -> Likelihood:
    """log p of clips `x`, whose `ids` give their probes; all frames of a clip share their noise time.

    `denoise` is the denoiser with its conditions; guided, it is no law's, and the number means nothing. `steps` are
    even in log(sigma / alpha) between `sigma_min` and `sigma_max`, or the process's end if that is less. A step asks
    for four evaluations and their derivatives along the trace's directions. A pure function for `jax.jit`.

    The density is of latents: of pixels only for a run on pixels, and there of numbers, not of 8-bit codes, unless a
    code's width of uniform noise was added ("dequantised"). See `bits_per_dimension`. Raises `UserError` for coloured
    noise, and for steps or ends of noise that make no way.
    """
    process = process.of(x.shape[1:])
    if not isinstance(process.noise, White):
        raise UserError("the likelihood's prior is that of white noise: use a process with White()")
    with jax.ensure_compile_time_eval():
        end = float(np.exp(-np.asarray(process.logsnr(jnp.ones(())), np.float64) / 2))
    sigma_max = min(sigma_max, end)
    if steps < 1 or not 0 < sigma_min < sigma_max:
        raise UserError(
            f"steps={steps} from sigma_min={sigma_min:g} to sigma_max={sigma_max:g} are no way: take at least 1, "
            "from above 0 to more"
        )
    levels = np.linspace(np.log(sigma_min), np.log(sigma_max), steps + 1)
    directions = trace.directions(x, ids)

    def rate(u: Array, y: Array) -> tuple[Array, Array]:
        """dy/du, and the estimates of its divergence (k, b)."""
        tau = jnp.clip(process.tau_of_logsnr(jnp.full(x.shape[:2], -2 * u, x.dtype)), 0.0, 1.0)

        def velocity(y: Array) -> Array:
            return jnp.exp(u) * denoise(expand(process.alpha(tau), y.ndim) * y, tau).epsilon

        moved, along = jax.linearize(velocity, y)
        slopes = jax.vmap(lambda v: (v * along(v)).sum((1, 2, 3, 4)))(directions)
        return moved, trace.gather(slopes)

    def step(state: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        (y, total), (u, h) = state, now
        k1, d1 = rate(u, y)
        k2, d2 = rate(u + h / 2, y + h / 2 * k1)
        k3, d3 = rate(u + h / 2, y + h / 2 * k2)
        k4, d4 = rate(u + h, y + h * k3)
        return (y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), total + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)), None

    nothing = jnp.zeros_like(trace.gather(jnp.zeros(directions.shape[:2], x.dtype)))
    rows = jnp.asarray(levels[:-1], x.dtype), jnp.asarray(np.diff(levels), x.dtype)
    (y, total), _ = jax.lax.scan(step, (x, nothing), rows)
    noise = prior.standard(process, y, sigma_max)
    return Likelihood(prior(process, y, sigma_max) + total.mean(0), trace.error(total), noise)


def bits_per_dimension(log_density: Array, values: int, width: float = 1.0) -> Array:
    """Bits for each of a clip's `values`, told to a precision of `width`: -log2 p / values - log2 width.

    For pixels in [-1, 1] of 8 bits, dequantised, `width` is 2 / 255; latents have no natural one, and 1 says so.
    """
    return -log_density / (values * np.log(2)) - np.log2(width)
