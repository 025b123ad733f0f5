"""A law and one of its classes: what guidance is judged by."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.evaluate.truth.gaussian import Gaussian
from diorama.evaluate.truth.law import Law
from diorama.process.convert import Denoiser
from diorama.process.gaussian import Process, expand
from diorama.process.prediction import Prediction


@dataclass(frozen=True)
class Classes:
    """`marginal` p, and `conditional` p_c, that of one class. Conditions (b,) are 1 for the class, and 0 for none.

    The defaults are the example of Bradley & Nakkiran 2024 (arXiv 2408.09000), section 3: N(0, 2) and N(0, 1).
    """

    marginal: Law = field(default_factory=lambda: Gaussian(0.0, 2.0))
    conditional: Law = field(default_factory=lambda: Gaussian(0.0, 1.0))

    def denoiser(self, process: Process) -> Denoiser:
        """The perfect conditional denoiser."""
        marginal, conditional = self.marginal.denoiser(process), self.conditional.denoiser(process)

        def denoise(x: Array, tau: Array, conditions: Any) -> Prediction:
            chosen = expand(conditions, x.ndim) > 0
            return jax.tree.map(
                lambda one, none: jnp.where(chosen, one, none), conditional(x, tau, None), marginal(x, tau, None)
            )

        return denoise

    def ode_variance(self, weight: Array | float) -> Array | float:
        """The variance that the guided probability-flow ODE gives a Gaussian pair: v^(1-w) v_c^w, from sigma = inf."""
        v, v_c = self._variances()
        return v ** (1 - weight) * v_c**weight

    def sde_variance(self, weight: Array | float) -> Array | float:
        """That of the guided reverse SDE (DDPM): M(0)^2 times the integral of M^-2 over y = sigma^2,
        M(y) = (v + y)^(1-w) (v_c + y)^w; for v = 2, v_c = 1 it is (2 - 2^(2-2w)) / (2w - 1)."""
        v, v_c = self._variances()
        power = 2 * weight - 1
        return self.ode_variance(weight) ** 2 * ((v / v_c) ** power - 1) / (power * (v - v_c))

    def _variances(self) -> tuple[float, float]:
        assert isinstance(self.marginal, Gaussian)
        assert isinstance(self.conditional, Gaussian)
        return self.marginal.variance, self.conditional.variance
