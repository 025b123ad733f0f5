"""Inversions: one file a method. `Inversion` says what one is."""

from diorama.sample.invert.fixed_point import FixedPoint
from diorama.sample.invert.inversion import Inversion, Inverted
from diorama.sample.invert.naive import Naive
from diorama.sample.invert.reversible import Reversible

__all__ = ["FixedPoint", "Inversion", "Inverted", "Naive", "Reversible"]
