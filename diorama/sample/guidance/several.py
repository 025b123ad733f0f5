"""Guidance by several signals, each with a weight of its own."""

from dataclasses import dataclass
from typing import Any

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.process.convert import Denoiser
from diorama.process.gaussian import Level
from diorama.process.prediction import Prediction
from diorama.sample.guidance.guidance import Guidance, apart, like, plus, together


@dataclass(frozen=True)
class Weight:
    """How much of scale - 1 the condition called `signal` gets."""

    signal: str = "text"
    weight: float = 1.0


@dataclass(frozen=True)
class Several(Guidance):
    """Signals come in one after the other, and each step on that way has its own weight.

        guided = strong + sum_i weight_i extra (e_i - e_i-1)

    where e_0 has no signal, e_i the first i of them, and the last, strong, all (Brooks et al. 2022, arXiv 2211.09800,
    equation 3, for a picture and then a text). k signals take k + 1 evaluations, in one batch. With every weight 1, and
    with none given, it is `ClassifierFree`.

    Args:
        weights: in the order in which they come in; signals that are not among them come last, together, with weight 1.
    """

    weights: tuple[Weight, ...] = ()

    def __post_init__(self) -> None:
        names = [each.signal for each in self.weights]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise UserError(f"guidance weighs '{twice[0]}' more than once: give each signal one weight")

    def lead(
        self, denoiser: Denoiser, reference: Any, x: Array, tau: Array, conditions: Any, extra: Array, at: Level
    ) -> Prediction:
        if callable(reference) or (self.weights and not isinstance(conditions, dict)):
            raise UserError("signals that are weighted one by one are led away from none of them, and nothing else")
        unknown = [w.signal for w in self.weights if w.signal not in (conditions if self.weights else ())]
        if unknown:
            raise UserError(f"guidance weighs '{unknown[0]}', which is none of the signals {', '.join(conditions)}")
        ways, factors = [like(reference, conditions)], []
        for each in self.weights:
            ways.append({**ways[-1], each.signal: conditions[each.signal]})
            factors.append(each.weight)
        if not self.weights or len(self.weights) < len(conditions):
            ways.append(conditions)
            factors.append(1.0)
        said = together(denoiser, x, tau, *ways)
        led = said[-1]
        for factor, before, after in zip(factors, said[:-1], said[1:], strict=True):
            led = plus(led, factor * extra, apart(after, before))
        return led
