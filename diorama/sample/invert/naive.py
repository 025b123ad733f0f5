"""Inversion by walking the solver upwards."""

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.process.gaussian import Process
from diorama.sample.invert.inversion import Inversion, Inverted, noiseless, walk
from diorama.sample.solver import Denoise, Heun, Solver


@dataclass(frozen=True)
class Naive(Inversion):
    """The same ODE, with the plan turned round: DDIM inversion where the solver is `Euler` (arXiv 2010.02502, 4.3).

    A step up asks the denoiser at the other end of the interval than the step down, so the round trip misses by the
    solver's error, in its order. From data the first step up is cruder: there is no noise there to predict, and a
    network that predicts x0 says epsilon = 0, so that step adds too little. `residual` says nothing of all that and is
    NaN: there is no equation that it solves.
    """

    solver: Solver = field(default_factory=Heun)

    def __post_init__(self) -> None:
        noiseless(self.solver)

    def invert(self, denoise: Denoise, process: Process, plan: np.ndarray, x: Array) -> Inverted:
        risen = walk(self.solver, denoise, process, plan[::-1], x)
        return Inverted(risen, jnp.full(len(x), jnp.nan, x.dtype), jnp.ones(len(x), int))

    def generate(self, denoise: Denoise, process: Process, plan: np.ndarray, state: Any) -> Array:
        return walk(self.solver, denoise, process, plan, state)
