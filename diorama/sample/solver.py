"""Solvers: one step from noise time tau to tau_next.

All integrate the probability-flow ODE in one form that has no pole, for any process, at either end:

    x(tau') = x(tau) + integral x0 dalpha + integral epsilon dsigma                        (1)

where (x0, epsilon) is the denoiser's pair along the way. Freeze the pair and (1) becomes alpha' x0 + sigma' epsilon:
noise the predicted data again, with the predicted noise. That is at once Euler's step in tau for rectified flow, in
sigma for EDM, and DDIM for variance-preserving processes; for every process it is Euler's step in the
variance-exploding coordinates x/alpha, sigma/alpha, but finite at alpha = 0, where those are not. Take the mean of the
pair at both ends (the trapezoidal rule for both Stieltjes integrals) and it becomes Heun's step, EDM's and flow
matching's. The rates of alpha and sigma never appear: sigma of the linear variance-preserving process rises as
sqrt(tau), and a last Euler step by its rate would remove but half of the noise. Both are exact in one step if the data
are a single point.

Stochastic solvers keep the marginals and forget part of the noise: by `churn`, which raises the noise before a
step, or by `eta`, which replaces part of the predicted noise after it. At 0 no noise is drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array, Key
from diorama.process.gaussian import Process, divide, expand
from diorama.process.prediction import Prediction

Denoise = Callable[[Array, Array], Prediction]  # (x_tau, tau) -> Prediction: a denoiser with its conditions


@dataclass(frozen=True)
class Solver:
    """A step, and what it carries from one to the next (nothing, unless a solver says otherwise)."""

    def start(self, x: Array) -> Any:
        """The first `carry`."""
        return ()

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, keys: Key, carry: Any
    ) -> tuple[Array, Any]:
        """`x` (b, t, h, w, c) at `tau` (b, t), taken to `tau_next` (b, t), and the next carry.

        `keys` (b,) is each example's own randomness for this step.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Euler(Solver):
    """First order, one evaluation. `churn` raises sigma/alpha by a factor 1 + churn before each step.

    Karras et al. 2022 (arXiv 2206.00364), algorithm 2: their S_churn is churn x steps, at most (sqrt(2) - 1) steps.
    """

    churn: float = 0.0

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, keys: Key, carry: Any
    ) -> tuple[Array, Any]:
        x, tau = _churned(self.churn, process, x, tau, tau_next, keys)
        here = denoise(x, tau)
        return process.add_noise(here.x0, here.epsilon, tau_next), carry


@dataclass(frozen=True)
class Heun(Solver):
    """Second order, two evaluations, one in the step that ends in data; 2206.00364, algorithms 1 and 2.

    `churn` as for `Euler`.
    """

    churn: float = 0.0

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, keys: Key, carry: Any
    ) -> tuple[Array, Any]:
        x, tau = _churned(self.churn, process, x, tau, tau_next, keys)
        here = denoise(x, tau)
        euler = process.add_noise(here.x0, here.epsilon, tau_next)

        def corrected() -> Array:
            there = denoise(euler, tau_next)
            a, b = process.at(tau, x.ndim), process.at(tau_next, x.ndim)
            change = (b.alpha - a.alpha) * (there.x0 - here.x0) + (b.sigma - a.sigma) * (there.epsilon - here.epsilon)
            return euler + jnp.where(expand(tau_next > 0, x.ndim), change / 2, 0.0)

        # In data there is no noise to predict: the last step is Euler's, and costs one evaluation.
        return jax.lax.cond(jnp.any(tau_next > 0), corrected, lambda: euler), carry


@dataclass(frozen=True)
class DDIM(Solver):
    """First order, one evaluation; `eta` from 0 (the ODE, equal to `Euler`) to 1 (ancestral sampling, DDPM).

    Song et al. 2020 (arXiv 2010.02502), equations 12 and 16, for any process: a share
    kappa^2 = eta^2 (1 - snr / snr_next) of the predicted noise's variance is drawn afresh.
    """

    eta: float = 0.0

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, keys: Key, carry: Any
    ) -> tuple[Array, Any]:
        here = denoise(x, tau)
        epsilon = here.epsilon
        if self.eta > 0:
            a, b = process.at(tau, x.ndim), process.at(tau_next, x.ndim)
            ratio = divide(a.alpha * b.sigma, b.alpha * a.sigma)
            kappa = self.eta * jnp.sqrt(jnp.maximum(1 - ratio**2, 0.0))
            epsilon = jnp.sqrt(1 - kappa**2) * epsilon + kappa * fresh_noise(keys, x)
        return process.add_noise(here.x0, epsilon, tau_next), carry


def _churned(churn: float, process: Process, x: Array, tau: Array, tau_next: Array, keys: Key) -> tuple[Array, Array]:
    """`x` and `tau` with sigma/alpha raised by 1 + churn, in the frames that this step moves."""
    if churn == 0:
        return x, tau
    raised = jnp.clip(process.tau_of_logsnr(process.logsnr(tau) - 2 * jnp.log1p(churn)), tau, 1.0)
    tau_hat = jnp.where(tau_next < tau, raised, tau)
    return process.renoise(x, tau, tau_hat, fresh_noise(keys, x)), tau_hat


def fresh_noise(keys: Key, x: Array) -> Array:
    """Standard normal noise like `x` (b, t, h, w, c), from each example's own key."""
    return jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)
