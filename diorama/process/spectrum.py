"""Spectra: how much variance lies at each spatial frequency.

White noise of variance s^2 is flat at s^2 and natural images fall about as k^-2, so at noise time tau the frequencies
with alpha^2 P(k) > sigma^2 stand above the noise and the rest is hidden.
"""

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array


def radius(h: int, w: int) -> np.ndarray:
    """Radial frequency of every coefficient of a 2-D Fourier transform, in cycles over the shorter side; (h, w)."""
    return np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)[None]) * min(h, w)


def rapsd(x: Array) -> Array:
    """Radially averaged power spectral density of `x` (..., h, w, c): (..., k, c).

    Row i is the mean of |FFT2|^2 / (h w) over frequencies that round to i + 1 cycles over the shorter side, up to
    its half (Nyquist); the mean of the image is left out.
    """
    h, w, c = x.shape[-3:]
    bins = min(h, w) // 2
    ring = np.rint(radius(h, w)).astype(int).ravel()
    power = jnp.abs(jnp.fft.fft2(x, axes=(-3, -2))) ** 2 / (h * w)
    power = jnp.moveaxis(power.reshape(*x.shape[:-3], h * w, c), -2, 0)
    total = jax.ops.segment_sum(power, ring, num_segments=int(ring.max()) + 1)[1 : bins + 1]
    count = np.bincount(ring)[1 : bins + 1]
    return jnp.moveaxis(total / count.reshape(-1, *(1,) * (total.ndim - 1)), 0, -2)
