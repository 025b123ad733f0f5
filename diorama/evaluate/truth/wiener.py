"""Gaussian laws that are stationary: the denoiser is a Wiener filter, and independent in every Fourier mode."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.evaluate.truth.law import Seen
from diorama.process.gaussian import Level, Process, divide, expand
from diorama.process.noise import Coloured


@dataclass(frozen=True, eq=False)
class Wiener:
    """A Gaussian of constant `mean`, () or (c,), and of a `power` that broadcasts against modes (t, h, w, c).

    `axes` are those over which neighbours are related: () none, (-3, -2) space, (-4, -3, -2) space and time. Where time
    is among them, all frames of a clip have one noise time; a clip whose frames differ is answered with NaN.
    """

    mean: Array | float
    power: Array | np.ndarray | float
    axes: tuple[int, ...] = ()

    def look(self, x: Array, process: Process, tau: Array | float) -> Seen:
        """As `Law.look`. A mode of the data has the variance P alpha^2 + N sigma^2 at tau."""
        axes, at = self._axes(process), process.at(tau, x.ndim)
        modes = self._modes(x - at.alpha * self.mean, tau, axes)
        total = self._total(process, at, x)
        u = divide(modes, total)
        x0 = self.mean + self._back(at.alpha * self.power * u, axes)
        epsilon = self._back(at.sigma * self._noise(process, x) * u, axes)
        logp = -0.5 * jnp.sum((modes * u.conj()).real + jnp.log(2 * jnp.pi * total), axis=(-4, -3, -2, -1))
        return Seen(x0, epsilon, -self._back(u, axes), logp)

    def flow(self, process: Process, x: Array, tau: Array | float, tau_next: Array | float) -> Array:
        """Where the probability-flow ODE takes x: every mode keeps its place in its own spread."""
        axes, a, b = self._axes(process), process.at(tau, x.ndim), process.at(tau_next, x.ndim)
        spread = jnp.sqrt(divide(self._total(process, b, x), self._total(process, a, x)))
        return b.alpha * self.mean + self._back(spread * self._modes(x - a.alpha * self.mean, tau, axes), axes)

    def draw(self, white: Array) -> Array:
        """Data from `white` noise (n, t, h, w, c)."""
        gain = jnp.sqrt(jnp.asarray(self.power, white.dtype))
        return self.mean + self._back(gain * self._modes(white, 0.0, self.axes), self.axes)

    def _axes(self, process: Process) -> tuple[int, ...]:
        noise = process.noise
        coloured = () if not isinstance(noise, Coloured) else (-4, -3, -2) if noise.time else (-3, -2)
        return max(self.axes, coloured, key=len)

    def _total(self, process: Process, at: Level, x: Array) -> Array:
        return at.alpha**2 * self.power + at.sigma**2 * self._noise(process, x) + jnp.zeros(x.shape[1:], x.dtype)

    def _noise(self, process: Process, x: Array) -> np.ndarray | float:
        noise = process.noise
        return noise.power(*x.shape[1:4])[..., None] if isinstance(noise, Coloured) else 1.0

    def _modes(self, x: Array, tau: Array | float, axes: tuple[int, ...]) -> Array:
        tau = jnp.asarray(tau)
        if len(axes) == 3 and tau.ndim > 1:
            x = jnp.where(expand(jnp.all(tau == tau[:, :1], axis=1), x.ndim), x, jnp.nan)
        return jnp.fft.fftn(x, axes=axes, norm="ortho") if axes else x

    def _back(self, modes: Array, axes: tuple[int, ...]) -> Array:
        return jnp.fft.ifftn(modes, axes=axes, norm="ortho").real if axes else modes
