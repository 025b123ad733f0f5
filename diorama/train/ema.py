"""Power-function averages of the weights, and averages of any width made after training from stored ones.

Source: Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models" (EDM2, arXiv 2312.02696),
section 3 and appendix C. The average after t examples weighs the weights at time s by

    p(s) = (gamma + 1) s^gamma / t^(gamma + 1),    0 <= s <= t                               (1)

so its width is a fixed share of the training so far: `std` is the standard deviation of s / t. One step that takes
the count of examples from t - n to t multiplies the old average by

    beta = (1 - n / t)^(gamma + 1)                                                            (2)

and the products telescope: the weights after step k, at t_k examples, count for exactly the integral of (1) over
[t_(k-1), t_k]. At the first step beta = 0, so the initial weights never count.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array

T = TypeVar("T")


def gamma_of(std: float) -> float:
    """The exponent whose profile has relative width `std`, in (0, 0.2886).

    The largest real root of gamma^3 + 7 gamma^2 + (16 - std^-2) gamma + (12 - std^-2) = 0.
    Raises `ValueError` outside that range (gamma = 0 is the flat average, of width 1 / sqrt(12)).
    """
    if not 0 < std < 12**-0.5:
        raise ValueError(f"the relative width of a weight average is between 0 and {12**-0.5:.4f}, not {std}")
    roots = np.roots([1, 7, 16 - std**-2, 12 - std**-2])
    return float(np.max(roots[np.isreal(roots)].real))


def std_of(gamma: float) -> float:
    """The relative width of the profile with exponent `gamma`."""
    return float(((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) ** 0.5)


def update(average: T, model: T, gamma: float, share: Array) -> T:
    """One step of eq. (2); `share` = n / t, the part of all examples so far that this step has seen, in (0, 1].

    1 - beta is computed without cancellation: after 10^9 examples it is far below what float32 keeps beside 1.
    """
    gain = -jnp.expm1((gamma + 1) * jnp.log1p(-share))

    def blend(old: Array, new: Array) -> Array:
        return old + gain * (new - old) if jnp.issubdtype(new.dtype, jnp.floating) else new

    return jax.tree.map(blend, average, model)


def overlap(t_a: Any, gamma_a: Any, t_b: Any, gamma_b: Any) -> np.ndarray:
    """The inner product of two profiles (1), by numpy's broadcasting; float64 (EDM2, appendix C, in logarithms)."""
    t_a, gamma_a, t_b, gamma_b = (np.asarray(x, np.float64) for x in (t_a, gamma_a, t_b, gamma_b))
    early = np.log(np.minimum(t_a, t_b))
    logs = (gamma_a + 1) * (early - np.log(t_a)) + (gamma_b + 1) * (early - np.log(t_b)) - early
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * np.exp(logs)


def combination(stored: Sequence[tuple[int, float]], examples: int, std: float) -> np.ndarray:
    """How to add stored averages up so that the sum is nearest to the profile of width `std` at `examples`.

    Args:
        stored: (examples, std) of each stored average.
        examples, std: the average that is wanted.

    Returns:
        One float64 coefficient for each stored average: the least-squares solution in the space of profiles, among
        those that sum to 1. (EDM2 leaves the sum free; then weights that did not move come out a per cent off.)
    """
    t = np.array([s[0] for s in stored], np.float64)
    gamma = np.array([gamma_of(s[1]) for s in stored])
    n = len(t)
    gram = overlap(t[:, None], gamma[:, None], t[None], gamma[None]) * examples
    system = np.block([[gram, np.ones((n, 1))], [np.ones((1, n)), np.zeros((1, 1))]])  # Lagrange's, for the sum
    wanted = np.append(overlap(t, gamma, examples, gamma_of(std)) * examples, 1)
    return np.linalg.lstsq(system, wanted, rcond=None)[0][:n]
