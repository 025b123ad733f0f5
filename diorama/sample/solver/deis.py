"""DEIS (Zhang & Chen 2022, arXiv 2204.13902): the linear part of the ODE exactly, epsilon as a polynomial."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.gaussian import Process, divide, expand
from diorama.process.noise import Brownian
from diorama.sample.solver.history import bend, exponential, half_logsnr, nothing, remember
from diorama.sample.solver.solver import Denoise, Solver


@dataclass(frozen=True)
class DEIS(Solver):
    """`order` 1 to 3, one evaluation a step: epsilon is a polynomial through the last `order` evaluations, in `axis`.

    Their equation 15: with rho = sigma / alpha, x_next = alpha_next (x / alpha + integral epsilon drho), and so

        x_next = alpha_next x0 + sigma_next epsilon + alpha_next integral (epsilon(rho) - epsilon) drho          (1)

    "logsnr": a polynomial in log rho, as in diffusers. "tau": in noise time, the paper's tAB; then grids and processes
    should be made for each other. (In rho itself it is `LMS`.)
    """

    order: int = 3  # type: ignore[misc]
    axis: Literal["logsnr", "tau"] = "logsnr"

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise UserError(f"order={self.order}: DEIS has orders 1, 2 and 3")

    @classmethod
    def examples(cls) -> "tuple[Solver, ...]":
        return cls(2), cls(3), cls(3, "tau")

    def start(self, x: Array) -> Any:
        return nothing(x, self.order - 1)

    def step(
        self, denoise: Denoise, process: Process, x: Array, tau: Array, tau_next: Array, noise: Brownian, carry: Any
    ) -> tuple[Array, Any]:
        here, b = denoise(x, tau), process.at(tau_next, x.ndim)
        if self.axis == "tau":
            at = expand(jnp.where(process.alpha(tau) > 0, tau, jnp.inf), x.ndim)
            to, moments = expand(tau_next, x.ndim), _in_time(process, tau, tau_next, x.ndim)
        else:  # drho = -rho_next h e^(h (1 - r)) dr, with r from 0 to 1 along the step
            at, to = half_logsnr(process, tau, x.ndim), half_logsnr(process, tau_next, x.ndim)
            moments = lambda h, n: [b.sigma * moment for moment in exponential(-h, n)]  # noqa: E731
        node = here.epsilon, at
        y = process.add_noise(here.x0, here.epsilon, tau_next) + bend((node, *carry), to, moments, None)
        return y, remember(carry, node, tau_next != tau)


def _in_time(process: Process, tau: Array, tau_next: Array, ndim: int) -> Callable[[Array, int], list[Array]]:
    """alpha_next integral r^j drho = sigma_next - alpha_next integral rho d(r^j), by Gauss's rule of eight points."""
    points, weights = np.polynomial.legendre.leggauss(8)
    b, r = process.at(tau_next, ndim), (points + 1) / 2
    levels = [process.at(tau + share * (tau_next - tau), ndim) for share in r]
    rho = [divide(b.alpha * level.sigma, level.alpha) for level in levels]

    def moments(h: Array, n: int) -> list[Array]:
        rises = [[w / 2 * j * share ** (j - 1) for w, share in zip(weights, r, strict=True)] for j in range(1, n + 1)]
        return [b.sigma - sum(c * value for c, value in zip(rise, rho, strict=True)) for rise in rises]

    return moments
