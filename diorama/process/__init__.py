"""Noise processes, predictions and their conversions, densities, weightings and spectra: pure maths, no network."""

from diorama.core.discover import any_of, kinds, within
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
from diorama.process.noise import Brownian, Coloured, Noise, White
from diorama.process.prediction import Prediction
from diorama.process.shift import Shifted, ShiftedBySize
from diorama.process.spectrum import rapsd

PROCESSES = kinds(within(__name__), Process)
AnyProcess = any_of(PROCESSES)  # what a run's configuration may name

__all__ = [
    "EDM",
    "PROCESSES",
    "AnyProcess",
    "Brownian",
    "Coloured",
    "CosineVP",
    "Level",
    "LinearVP",
    "Noise",
    "Prediction",
    "Process",
    "RectifiedFlow",
    "Shifted",
    "ShiftedBySize",
    "Trigonometric",
    "White",
    "ZeroTerminal",
    "as_process",
    "density",
    "expand",
    "rapsd",
    "weighting",
]
