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

Stochastic solvers keep the marginals and forget part of the noise: by `Churn`, which raises the noise before a step,
or by `eta`, which replaces part of the predicted noise in it or after it. At 0 no noise is drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.process.gaussian import Process, expand
from diorama.process.noise import Brownian
from diorama.process.prediction import Prediction

Denoise = Callable[[Array, Array], Prediction]  # (x_tau, tau) -> Prediction: a denoiser with its conditions


@dataclass(frozen=True)
class Solver:
    """A step, and what it carries from one to the next (nothing, unless a solver says otherwise).

    `order` is how fast its error falls with the size of its steps, and `evaluations` how often a step asks the
    denoiser (the one that ends in data may ask less often). `examples` are the settings that `diorama lab` shows.
    """

    order: ClassVar[int] = 1
    evaluations: ClassVar[int] = 1

    @classmethod
    def examples(cls) -> "tuple[Solver, ...]":
        """Settings worth comparing; the defaults if not said otherwise."""
        return (cls(),)

    @property
    def stochastic(self) -> bool:
        """Whether steps draw noise."""
        return False

    def start(self, x: Array) -> Any:
        """The first `carry`: arrays that begin with the axes (b, t), for frames may begin anew on their own."""
        return ()

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        """`x` (b, t, h, w, c) at `tau` (b, t), taken to `tau_next` (b, t), and the next carry.

        `noise(tau, tau_next)` is epsilon of the interval between: each example's own, new in each step.
        """
        raise NotImplementedError


def advance(
    solver: Solver, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian,
    carry: Any,
) -> tuple[Array, Any]:  # fmt: skip
    """`solver.step`, in which frames that stand still (tau_next = tau) come out as they are, bit for bit.

    Nor does the denoiser see anything else of them, however often a step asks: other frames look at given ones as they
    are, not at what the solver makes of them on its way.
    """
    still = tau_next == tau
    wide = expand(still, x.ndim)

    def shown(asked: Array, at: Array) -> Prediction:
        return denoise(jnp.where(wide, x, asked), jnp.where(still, tau, at))

    moved, carry = solver.step(shown, process, x, tau, tau_next, noise, carry)
    return jnp.where(wide, x, moved), carry
