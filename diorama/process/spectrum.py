"""Spectra: how much variance lies at each frequency, in space and in time.

White noise of variance s^2 is flat at s^2 and natural images fall about as k^-2. At noise time tau the frequencies with

    alpha^2 P(k) > sigma^2 N(k)                                                             (1)

stand above the noise, whose own spectrum is N (1 if it is white), and the rest is hidden (Dieleman 2024, "Diffusion is
spectral autoregression"; that a model need not work so is shown in Falck et al. 2025, arXiv 2505.11278).

Nothing is windowed: a picture counts as if it were repeated, and the step from one edge to the other is a part of its
spectrum, which falls as k^-2 too. Noise and random fields have no such step.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process
from diorama.process.noise import Noise


def radius(h: int, w: int) -> np.ndarray:
    """Radial frequency of every coefficient of a 2-D Fourier transform, in cycles over the shorter side; (h, w)."""
    return np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None]) * min(h, w)


def _rings(h: int, w: int) -> np.ndarray:
    """The ring of every coefficient, (h, w): its radius, rounded."""
    return np.rint(radius(h, w)).astype(int)


def rapsd(x: Array) -> Array:
    """Radially averaged power spectral density of `x` (..., h, w, c): (..., k, c).

    Row i is the mean of |FFT2|^2 / (h w) over frequencies that round to i + 1 cycles over the shorter side, up to
    its half (Nyquist); the mean of the image is left out.
    """
    h, w, c = x.shape[-3:]
    bins = min(h, w) // 2
    ring = _rings(h, w).ravel()
    power = jnp.abs(jnp.fft.fft2(x, axes=(-3, -2))) ** 2 / (h * w)
    power = jnp.moveaxis(power.reshape(*x.shape[:-3], h * w, c), -2, 0)
    total = jax.ops.segment_sum(power, ring, num_segments=int(ring.max()) + 1)[1 : bins + 1]
    count = np.bincount(ring)[1 : bins + 1]
    return jnp.moveaxis(total / count.reshape(-1, *(1,) * (total.ndim - 1)), 0, -2)


def tpsd(x: Array) -> Array:
    """Temporal power spectral density of `x` (..., t, h, w, c), a mean over positions: (..., k, c).

    Row i is |FFT|^2 / t at i + 1 cycles over the clip, up to t // 2; what stands still is left out.
    """
    t = x.shape[-4]
    power = jnp.abs(jnp.fft.rfft(x, axis=-4)) ** 2 / t
    return power[..., 1 : t // 2 + 1, :, :, :].mean((-3, -2))


def share_in_space(h: int, w: int) -> np.ndarray:
    """Which share of all coefficients of a picture lies in each row of `rapsd`: (k,). Corners are in none."""
    return np.bincount(_rings(h, w).ravel())[1 : min(h, w) // 2 + 1] / (h * w)


def share_in_time(t: int) -> np.ndarray:
    """Which share of all coefficients over t frames lies in each row of `tpsd`: (k,)."""
    k = np.arange(1, t // 2 + 1)
    return np.where(2 * k == t, 1.0, 2.0) / t


def octaves(power: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The variance in each octave, of 1, 2-3, 4-7, 8-15 ... cycles: (..., k) -> (..., octaves).

    power: as `rapsd` or `tpsd` give it, one channel or a mean of them. share (k,): of the same picture or clip.
    """
    starts = 2 ** np.arange(power.shape[-1].bit_length())
    return np.add.reduceat(power * share, starts - 1, axis=-1)


@dataclass(frozen=True)
class PowerLaw:
    """P(k) = level k^exponent. error: the standard error of the exponent."""

    exponent: float
    error: float
    level: float

    def __call__(self, k: np.ndarray) -> np.ndarray:
        return self.level * np.asarray(k, float) ** self.exponent


def band(n: int) -> tuple[int, int]:
    """The first and the last cycle of n that a power law is fitted to: not the coarsest, of which a picture has but a
    few, nor the finest, which lenses and codecs treat in ways of their own; all where few would be left."""
    low, high = max(2, n // 40), int(0.7 * n)
    return (low, high) if high - low >= 3 else (1, n)


def power_law(power: np.ndarray) -> PowerLaw:
    """Least squares of log power on log frequency within the `band` of `power` (k,).

    The error is that of scatter around the line: curvature counts as scatter, neighbours as independent.
    Raises `UserError` for fewer than three frequencies, or one without power.
    """
    low, high = band(len(power))
    part = np.asarray(power, np.float64)[low - 1 : high]
    if len(part) < 3 or part.min() <= 0:
        raise UserError(f"a power law is fitted to three frequencies or more that have power, not to {part}")
    x, y = np.log(np.arange(low, high + 1)), np.log(part)
    away = x - x.mean()
    exponent = away @ y / (away @ away)
    left = y - y.mean() - exponent * away
    error = np.sqrt(left @ left / (len(x) - 2) / (away @ away))
    return PowerLaw(float(exponent), float(error), float(np.exp(y.mean() - exponent * x.mean())))


def noise_power(noise: Noise, t: int, h: int, w: int) -> np.ndarray:
    """N of equation (1), (t, h, w) in the order of `fftn`, of mean 1: what `noise` makes of one bright value."""
    impulse = jnp.zeros((t, h, w, 1)).at[0, 0, 0, 0].set(1.0)
    return np.abs(np.fft.fftn(np.asarray(noise.colour(impulse))[..., 0])) ** 2


def noise_in_space(noise: Noise, t: int, h: int, w: int) -> np.ndarray:
    """The `rapsd` (k,) to expect of the frames of noise."""
    power, ring = noise_power(noise, t, h, w).mean(0), _rings(h, w).ravel()
    return (np.bincount(ring, power.ravel()) / np.bincount(ring))[1 : min(h, w) // 2 + 1]


def noise_in_time(noise: Noise, t: int, h: int, w: int) -> np.ndarray:
    """The `tpsd` (k,) to expect of clips of noise."""
    return noise_power(noise, t, h, w).mean((1, 2))[1 : t // 2 + 1]


def drowning(process: Process, power: np.ndarray, noise: np.ndarray | float = 1.0) -> np.ndarray:
    """The noise time at which each frequency drowns, equality in (1): (k,) in [0, 1].

    power: of the data that `process` adds noise to; noise: the spectrum of its noise. 0 where there is no power, and 1
    where a frequency stands above the noise to the process's end.
    """
    with np.errstate(divide="ignore"):
        logsnr = np.log(np.asarray(noise, np.float64)) - np.log(np.asarray(power, np.float64))
    above = np.isfinite(logsnr)
    tau = np.asarray(process.tau_of_logsnr(jnp.asarray(np.where(above, logsnr, 0.0))), np.float64)
    return np.where(above, np.clip(tau, 0.0, 1.0), 0.0)


def standing(power: np.ndarray, sigma: float) -> int:
    """How many cycles, from the coarsest on, stand above white noise of `sigma`."""
    hidden = np.asarray(power) <= sigma**2
    return int(hidden.argmax()) if hidden.any() else len(hidden)
