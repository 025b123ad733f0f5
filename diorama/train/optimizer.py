"""Optimisers: the direction of a step. How far it goes is the learning rate's business."""

from dataclasses import dataclass
from typing import Any

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (arXiv 1711.05101); the decay is for every parameter.

    Args:
        betas: decay of the first and second moments.
        weight_decay: scaled by the learning rate.
    """

    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def transform(self) -> optax.GradientTransformation:
        """Gradients to directions; the step is minus the learning rate times these."""
        adam = optax.scale_by_adam(*self.betas)
        return optax.chain(adam, optax.add_decayed_weights(self.weight_decay)) if self.weight_decay else adam


@dataclass(frozen=True)
class Muon:
    """Momentum with orthogonalised matrices (Jordan et al. 2024), at the step size of Adam (arXiv 2502.16982).

    Every direction of a weight matrix moves alike; small nets learn from fewer examples with it (docs/log.md).
    Convolutions are matrices from patch to output; stacked blocks and the taps of a temporal convolution are one
    matrix each. Vectors and matrices with a side under `smallest` get Adam's direction,
    with Nesterov's momentum.

    Args:
        momentum: of the gradient.
        betas, weight_decay: as of `AdamW`; the decay is for matrices and the rest alike.
        smallest: the smaller side a matrix must have.
    """

    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    smallest: int = 16

    def transform(self) -> optax.GradientTransformation:
        """Gradients to directions; the step is minus the learning rate times these."""
        both = muon(
            1.0,
            beta=self.momentum,
            weight_decay=self.weight_decay,
            adam_b1=self.betas[0],
            adam_b2=self.betas[1],
            adam_weight_decay=self.weight_decay,
            muon_weight_dimension_numbers=lambda params: jax.tree.map(self._matrix, params),
            consistent_rms=0.2,  # the usual size of Adam's update
        )
        return optax.chain(both, optax.scale(-1.0))  # optax's own sign is that of the step

    def _matrix(self, x: Any) -> MuonDimensionNumbers | None:
        """Which axes of a parameter are a matrix's rows and columns; the others are a stack."""
        inputs = {2: (0,), 3: (1,), 4: (0, 1, 2)}.get(x.ndim)
        if inputs is None:
            return None
        rows = 1
        for axis in inputs:
            rows *= x.shape[axis]
        return MuonDimensionNumbers(inputs, x.ndim - 1) if min(rows, x.shape[-1]) >= self.smallest else None


Optimizer = AdamW | Muon
