"""Laws of data of which every step of a diffusion is known exactly: what solvers and guidance are judged by."""

from diorama.evaluate.truth.classes import Classes
from diorama.evaluate.truth.field import Field
from diorama.evaluate.truth.field_mixture import FieldMixture
from diorama.evaluate.truth.gaussian import Gaussian
from diorama.evaluate.truth.law import Law, Seen
from diorama.evaluate.truth.mixture import Mixture, ring
from diorama.evaluate.truth.tilted import Tilted, TiltedField, tilted
from diorama.evaluate.truth.wiener import Wiener

__all__ = [
    "Classes", "Field", "FieldMixture", "Gaussian", "Law", "Mixture", "Seen", "Tilted", "TiltedField", "Wiener", "ring",
    "tilted",
]  # fmt: skip
