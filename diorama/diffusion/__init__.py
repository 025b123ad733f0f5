"""Modelling: the denoiser and its objective."""

from diorama.diffusion.denoiser import Denoiser, DenoiserConfig
from diorama.diffusion.objective import Denoising

__all__ = ["Denoiser", "DenoiserConfig", "Denoising"]
