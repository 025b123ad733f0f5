"""What a law of data knows of its diffusion x_tau = alpha x0 + sigma epsilon.

With C_tau the covariance of x_tau given one component, N that of epsilon and u = -grad log p(x_tau), all follows:

    epsilon = sigma N u        x0 = E[x0 | x_tau], Tweedie's formula        score = -u

None of them has a pole at either end, and at tau = 0 `score` and `logp` are those of the data.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from diorama.core.array import Array, Key, Shape
from diorama.process.convert import Denoiser
from diorama.process.gaussian import Process, Trigonometric
from diorama.process.prediction import Prediction


class Seen(NamedTuple):
    """What is known of x_tau; (b, t, h, w, c), and (b,) for `logp`, in nats. What nobody reads, jit removes."""

    x0: Array
    epsilon: Array
    score: Array  # gradient of logp by x_tau
    logp: Array


@dataclass(frozen=True)
class Law:
    """A law of clips; one gives `shape`, `look` and `draw`, and the rest follows."""

    @property
    def shape(self) -> Shape:
        """(t, h, w, c)."""
        raise NotImplementedError

    def look(self, x: Array, process: Process, tau: Array | float) -> Seen:
        """All that is known of `x` (b, t, h, w, c) at noise time `tau`: (), (b,) or (b, t)."""
        raise NotImplementedError

    def draw(self, key: Key, n: int) -> Array:
        """Exact samples (n, t, h, w, c)."""
        raise NotImplementedError

    def denoiser(self, process: Process) -> Denoiser:
        """The perfect denoiser; conditions tell it nothing."""

        def denoise(x: Array, tau: Array, conditions: Any = None) -> Prediction:
            seen = self.look(x, process, tau)
            return Prediction(seen.x0, seen.epsilon)

        return denoise

    def logp(self, x: Array, process: Process, tau: Array | float = 0.0) -> Array:
        """log p(x_tau) in nats, (b,); of the data at tau = 0."""
        return self.look(x, process, tau).logp

    def score(self, x: Array, process: Process, tau: Array | float = 0.0) -> Array:
        """The gradient of `logp` by x."""
        return self.look(x, process, tau).score

    def flow(self, process: Process, x: Array, tau: float, tau_next: float) -> np.ndarray | Array:
        """Where the probability-flow ODE takes `x` from `tau` to `tau_next`, either way; float64, not to be traced.

        In the angle theta with tan(theta) = sigma / alpha every process is the quarter circle, which is smooth at both
        ends: dy/dtheta = cos(theta) epsilon - sin(theta) x0 for y = x / hypot(alpha, sigma). It is integrated by the
        8th-order rule of Dormand and Prince at a relative tolerance of 1e-12.
        """
        with jax.enable_x64(True):
            circle = Trigonometric(sigma_data=1.0, noise=process.noise)
            times = jnp.asarray([tau, tau_next])
            alpha, sigma = np.asarray(process.alpha(times)), np.asarray(process.sigma(times))
            shape = x.shape

            @jax.jit
            def slope(angle: Array, y: Array) -> Array:
                seen = self.look(y.reshape(shape), circle, 2 / jnp.pi * angle)
                return (jnp.cos(angle) * seen.epsilon - jnp.sin(angle) * seen.x0).ravel()

            size = np.hypot(alpha, sigma)
            y = np.asarray(x, np.float64).ravel() / size[0]
            found = solve_ivp(slope, np.arctan2(sigma, alpha), y, method="DOP853", rtol=1e-12, atol=1e-13)
            return size[1] * found.y[:, -1].reshape(shape)


def mix(seen: list[Seen], log_weights: Array) -> Seen:
    """Of a mixture of laws, from what each of them sees of whole clips."""
    each = jnp.stack([one.logp for one in seen], -1) + log_weights
    share = jax.nn.softmax(each, -1)

    def mean(parts: list[Array]) -> Array:
        return sum((share[:, i, None, None, None, None] * part for i, part in enumerate(parts)), jnp.zeros(()))

    x0, epsilon, score = (mean(list(parts)) for parts in list(zip(*seen, strict=True))[:3])
    return Seen(x0, epsilon, score, jax.nn.logsumexp(each, -1))


def size(shape: Shape) -> int:
    """How many numbers a clip of `shape` has."""
    return int(np.prod(shape))
