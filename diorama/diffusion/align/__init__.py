"""Terms beside the denoising loss, on the features of a network's layers: one file a method."""

from diorama.diffusion.align.aligned import Aided, Aligned, AnyAlignment, denoiser_of, grids
from diorama.diffusion.align.dispersive import Dispersive
from diorama.diffusion.align.irepa import IREPA
from diorama.diffusion.align.repa import REPA
from diorama.diffusion.align.self_alignment import SelfAlignment

__all__ = [
    "IREPA",
    "REPA",
    "Aided",
    "Aligned",
    "AnyAlignment",
    "Dispersive",
    "SelfAlignment",
    "denoiser_of",
    "grids",
]
