"""The plain rule."""

from dataclasses import dataclass

from diorama.core.array import Array
from diorama.process.gaussian import Level
from diorama.process.prediction import Prediction
from diorama.sample.guidance.guidance import Guidance, apart, plus
from diorama.sample.guidance.schedule import Interval


@dataclass(frozen=True)
class ClassifierFree(Guidance):
    """weak + scale (strong - weak) (Ho & Salimans 2022, arXiv 2207.12598, equation 6; their w is scale - 1).

    Against a worse denoiser it is autoguidance (2406.02507), against perturbed attention PAG (2403.17377).
    """

    @classmethod
    def examples(cls) -> "tuple[Guidance, ...]":
        return cls(), cls(when=Interval())

    def combine(self, strong: Prediction, weak: Prediction, extra: Array, at: Level, tau: Array) -> Prediction:
        return plus(strong, extra, apart(strong, weak))
