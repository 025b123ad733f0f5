"""Optimisers: the direction of a step. How far it goes is the learning rate's business."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import optax
from optax.contrib import MuonDimensionNumbers, muon


@runtime_checkable
class Fixed(Protocol):
    """A module with parts whose inputs are of one size however wide the network is: latents, tables, noise levels."""

    @property
    def fixed(self) -> tuple[str, ...]:
        """Those fields' names."""
        ...


@dataclass(frozen=True)
class Widened:
    """Learning rates that hold at any width (muP, Yang et al. 2022, arXiv 2203.03466, table 3).

    A matrix from hidden channels, one with at least `now` inputs, moves `tuned` / `now` times as far by Adam: its sum
    over inputs then changes by as much as in the network in which the rate was tuned. An orthogonalised matrix of
    constant root mean square moves sqrt(tuned / now) times as far, for the same reason (Bernstein 2025, spectral
    condition, arXiv 2310.17813). What takes inputs of fixed size, as modules say of themselves (`Fixed`), and vectors
    move as before, and weight decay is that of every width; layers' initial weights, of variance 1 / inputs, and last
    layers, zero, are muP's already. Depth is not corrected for.

    Args:
        tuned: width of the network in which the learning rate was chosen.
        now: width of this one.
    """

    tuned: int
    now: int

    def hidden(self, tree: Any) -> Any:
        """For each parameter (stacks and convolutions, too) whether it is a matrix from hidden channels."""
        fixed = tree.fixed if isinstance(tree, Fixed) else ()

        def inner(part: Any) -> bool:
            return part is not tree and isinstance(part, Fixed)

        def of(path: Any, part: Any) -> Any:
            if fixed and path[0].name in fixed:
                return jax.tree.map(lambda x: False, part)
            if inner(part):
                return self.hidden(part)
            return part.ndim >= 2 and part.shape[-2] >= self.now

        return jax.tree_util.tree_map_with_path(of, tree, is_leaf=inner)

    def scale(self, power: Callable[[Any], float]) -> optax.GradientTransformation:
        """Directions of hidden matrices times (tuned / now)^`power(matrix)`."""
        ratio = self.tuned / self.now

        def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
            return jax.tree.map(lambda u, h: u * ratio ** power(u) if h else u, updates, self.hidden(updates)), state

        return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (arXiv 1711.05101); the decay is for every parameter.

    Args:
        betas: decay of the first and second moments.
        weight_decay: scaled by the learning rate.
        width: of networks wider or narrower than the one the learning rate is for; None where it is for this one.
    """

    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    width: Widened | None = None

    def transform(self) -> optax.GradientTransformation:
        """Gradients to directions; the step is minus the learning rate times these."""
        parts = [optax.scale_by_adam(*self.betas)]
        if self.width:
            parts.append(self.width.scale(lambda x: 1.0))
        if self.weight_decay:
            parts.append(optax.add_decayed_weights(self.weight_decay))
        return optax.chain(*parts) if len(parts) > 1 else parts[0]


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
        width: as of `AdamW`.
    """

    momentum: float = 0.95
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    smallest: int = 16
    width: Widened | None = None

    def transform(self) -> optax.GradientTransformation:
        """Gradients to directions; the step is minus the learning rate times these."""
        both = muon(
            1.0,
            beta=self.momentum,
            adam_b1=self.betas[0],
            adam_b2=self.betas[1],
            muon_weight_dimension_numbers=lambda params: jax.tree.map(self._matrix, params),
            consistent_rms=0.2,  # the usual size of Adam's update
        )
        parts = [both]
        if self.width:
            parts.append(self.width.scale(lambda x: 0.5 if self._matrix(x) else 1.0))
        parts.append(optax.scale(-1.0))  # optax's own sign is that of the step
        if self.weight_decay:  # last: it is as strong at every width
            parts.append(optax.add_decayed_weights(self.weight_decay))
        return optax.chain(*parts)

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
