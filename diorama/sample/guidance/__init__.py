"""Guidance: one rule a file. `Guidance` says what a rule is; every other one is found by where it lies."""

from diorama.core.discover import any_of, kinds, within
from diorama.process.convert import Denoiser
from diorama.sample.guidance.apg import APG
from diorama.sample.guidance.cfg_zero import CFGZero
from diorama.sample.guidance.classifier_free import ClassifierFree
from diorama.sample.guidance.frequency import FrequencyDecoupled
from diorama.sample.guidance.gradient import by_classifier, by_loss
from diorama.sample.guidance.guidance import Guidance
from diorama.sample.guidance.inpainting import inpainted
from diorama.sample.guidance.mambo import MAMBO
from diorama.sample.guidance.rescale import Rescaled
from diorama.sample.guidance.schedule import SCHEDULES, AnySchedule, Constant, Cosine, Interval, NoiseInterval, Ramp
from diorama.sample.guidance.several import Several, Weight
from diorama.sample.guidance.tangential import Tangential

GUIDANCES = kinds(within(__name__), Guidance)
AnyGuidance = any_of(GUIDANCES)  # what a run's configuration may name

__all__ = [
    "APG", "GUIDANCES", "MAMBO", "SCHEDULES", "AnyGuidance", "AnySchedule", "CFGZero", "ClassifierFree", "Constant",
    "Cosine", "Denoiser", "FrequencyDecoupled", "Guidance", "Interval", "NoiseInterval", "Ramp", "Rescaled", "Several",
    "Tangential", "Weight", "by_classifier", "by_loss", "inpainted",
]  # fmt: skip
