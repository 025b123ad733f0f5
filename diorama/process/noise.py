"""Noise: what epsilon is, and how a solver draws it afresh.

epsilon is Gaussian of mean 0 and of variance 1 at every value. `White` noise has a flat spectrum; `Coloured` noise has
another in its place, so that all frequencies may drown together (Falck et al. 2025, "A Fourier space perspective on
diffusion models", arXiv 2505.11278). Everything else of a process is as it is: conversions between predictions are
position by position. Only "score" is then the score times the noise's covariance.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core import random
from diorama.core.array import Array, Key, Shape
from diorama.core.errors import UserError
from diorama.core.module import Module, static

DEPTH = 18  # halvings of noise time: motions are exact at steps longer than 4e-6
STANDING = 2**31  # the number of the motion of frames that stand still


@dataclass(frozen=True)
class Noise:
    """A Gaussian law of epsilon, given by its spectrum."""

    def colour(self, white: Array) -> Array:
        """Noise of this law from `white` noise (..., t, h, w, c), by a linear map: the covariance's symmetric root."""
        raise NotImplementedError

    def covariance(self, x: Array) -> Array:
        """The covariance of epsilon, applied to `x` (..., t, h, w, c)."""
        return self.colour(self.colour(x))

    @property
    def joins_frames(self) -> bool:
        """Whether the noise of a frame has a part in that of others."""
        return False

    def draw(self, key: Key, ids: Array, shape: Shape) -> Array:
        """epsilon (b, *shape), shape = (t, h, w, c), float32, from each example's id."""
        return self.colour(random.normal(key, ids, shape))


@dataclass(frozen=True)
class White(Noise):
    """Every value for itself."""

    def colour(self, white: Array) -> Array:
        return white


@dataclass(frozen=True)
class Coloured(Noise):
    """Power that falls as frequency^-`space` over (h, w) and as frequency^-`time` over frames; 0 is white.

    Frequencies are in cycles over the axis; the mean has the power of the lowest one. Channels are independent.
    """

    space: float = 1.0
    time: float = 0.0

    def __post_init__(self) -> None:
        if self.space < 0 or self.time < 0:
            raise UserError(f"space={self.space}, time={self.time}: a spectrum that falls has no negative exponent")

    def power(self, t: int, h: int, w: int) -> np.ndarray:
        """The spectrum (t, h, w), of mean 1, in the order of `fftn`."""
        rows, columns = np.fft.fftfreq(h)[:, None] * h, np.fft.fftfreq(w)[None] * w
        space = np.maximum(np.hypot(rows, columns), 1.0) ** -self.space
        time = np.maximum(np.abs(np.fft.fftfreq(t) * t), 1.0) ** -self.time
        power = time[:, None, None] * space
        return power / power.mean()

    @property
    def joins_frames(self) -> bool:
        return self.time > 0

    def colour(self, white: Array) -> Array:
        axes = (-4, -3, -2)
        gain = jnp.sqrt(jnp.asarray(self.power(*white.shape[-4:-1]), white.dtype))[..., None]
        return jnp.fft.ifftn(gain * jnp.fft.fftn(white, axes=axes), axes=axes).real.astype(white.dtype)


class Brownian(Module):
    """Fresh noise for solvers: the increments of a Brownian motion over noise time, each frame's own.

    The motion is a function of the example's key alone, so a sample's noise depends neither on the batch nor on the
    number of steps: with more of them a stochastic solver converges to one clip. A virtual Brownian tree (Li et al.
    2020, arXiv 2001.01328): the motion at any time is found by halving [0, 1] towards it.
    """

    keys: Key[Array, "b"]
    shape: Shape = static()  # (t, h, w, c)
    noise: Noise = static()
    known: tuple[tuple[Array, Array], ...] = ()  # times, and where the motion is then
    first: Array | int = 0  # number of the first frame: a longer clip's frames have those of a shorter one

    def __call__(self, tau: Array, tau_next: Array) -> Array:
        """epsilon (b, t, h, w, c): the increment between two noise times (b, t) over the root of their distance.

        Independent for intervals that do not overlap; 0 where the times are equal. A solver that draws twice in a
        step takes two parts of it. Noise that joins frames needs its part of those that stand still too: they go
        through another motion, by the mean of all frames' times.
        """
        white = self._increment(tau, tau_next)
        if not self.noise.joins_frames:
            return self.noise.colour(white)
        moves = (tau_next != tau)[..., None, None, None]
        clocks = (jnp.broadcast_to(time.mean(1, keepdims=True), time.shape) for time in (tau, tau_next))
        still = self.again(STANDING)._increment(*clocks)
        return jnp.where(moves, self.noise.colour(jnp.where(moves, white, still)), 0.0)

    def _increment(self, tau: Array, tau_next: Array) -> Array:
        """What `__call__` colours."""
        at, to = self.motion(tau), self.motion(tau_next)
        apart = jnp.abs(tau_next - tau)
        size = jnp.where(apart > 0, jax.lax.rsqrt(jnp.where(apart > 0, apart, 1.0)), 0.0)
        return (to - at) * size[..., None, None, None]

    def at(self, tau: Array) -> Array:
        """epsilon (b, t, h, w, c) of the noise times (b, t) themselves, independent at any two: for what has no path.

        It is drawn at once, where an increment takes some 40 draws.
        """
        words = jax.lax.bitcast_convert_type(tau.astype(jnp.float32), jnp.uint32)

        def draw(key: Array, words: Array) -> Array:
            if self.noise.joins_frames:  # a frame that stands still is drawn anew when another moves
                key = jax.random.fold_in(key, words.sum(dtype=jnp.uint32))
            keys = jax.vmap(lambda frame, word: jax.random.fold_in(jax.random.fold_in(key, frame), word))
            normals = jax.vmap(lambda key: jax.random.normal(key, self.shape[1:], tau.dtype))
            return normals(keys(self.first + jnp.arange(len(words)), words))

        return self.noise.colour(jax.vmap(draw)(self.keys, words))

    def again(self, number: int | Array) -> "Brownian":
        """Another motion, independent of this one: for what goes through the same noise times once more."""
        keys = jax.vmap(lambda key: jax.random.fold_in(key, number))(self.keys)
        return Brownian(keys, self.shape, self.noise, first=self.first)

    def knowing(self, tau: Array, motion: Array | None = None) -> "Brownian":
        """Itself, with the motion at `tau` found once: whoever asks for this very array (not an equal one) has it."""
        found = self.motion(tau) if motion is None else motion
        return Brownian(self.keys, self.shape, self.noise, (*self.known, (tau, found)), self.first)

    def motion(self, tau: Array) -> Array:
        """The motion at `tau` (b, t), before it is coloured."""
        for time, motion in self.known:
            if time is tau:
                return motion
        frames = self.first + jnp.arange(self.shape[0])
        keys = jax.vmap(lambda key: jax.vmap(lambda frame: jax.random.fold_in(key, frame))(frames))(self.keys)

        def normals(node: Array) -> Array:
            draw = jax.vmap(
                jax.vmap(lambda key, n: jax.random.normal(jax.random.fold_in(key, n), self.shape[1:], tau.dtype))
            )
            return draw(keys, node)

        def spread(x: Array) -> Array:
            return x[..., None, None, None]

        def narrow(i: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
            node, left, right, low, high = state
            middle, last = (left + right) / 2, i == DEPTH  # the last point is tau itself
            share = jnp.where(last, (tau - left) / (right - left), 0.5)
            bridge = jnp.sqrt(jnp.maximum(share * (1 - share) * (right - left), 0.0))
            point = low + spread(share) * (high - low) + spread(bridge) * normals(node)
            above = tau > middle
            return (
                2 * node + above,
                jnp.where(above, middle, left),
                jnp.where(above, right, middle),
                jnp.where(spread(above | last), point, low),
                jnp.where(spread(above), high, point),
            )

        end = normals(jnp.zeros(tau.shape, jnp.uint32))
        start = jnp.ones(tau.shape, jnp.uint32), jnp.zeros_like(tau), jnp.ones_like(tau), jnp.zeros_like(end), end
        return jax.lax.fori_loop(0, DEPTH + 1, narrow, start)[3]
