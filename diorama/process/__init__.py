"""Noise processes, predictions and their conversions, densities, weightings and spectra: pure maths, no network."""

from diorama.process import density, weighting
from diorama.process.convert import as_process
from diorama.process.gaussian import (
    EDM,
    CosineVP,
    Level,
    LinearVP,
    Process,
    RectifiedFlow,
    Trigonometric,
    ZeroTerminal,
    expand,
)
from diorama.process.prediction import Prediction
from diorama.process.spectrum import rapsd

__all__ = [
    "EDM",
    "CosineVP",
    "Level",
    "LinearVP",
    "Prediction",
    "Process",
    "RectifiedFlow",
    "Trigonometric",
    "ZeroTerminal",
    "as_process",
    "density",
    "expand",
    "rapsd",
    "weighting",
]
