"""Sampling: noise grids, plans over frames, solvers, guidance."""

from diorama.sample import grid, plan
from diorama.sample.guidance import AnyGuidance, ClassifierFree, Denoiser, Guidance
from diorama.sample.sample import sample
from diorama.sample.solver import DDIM, AnySolver, DPMSolver, Euler, Heun, Solver

__all__ = [
    "DDIM", "AnyGuidance", "AnySolver", "ClassifierFree", "DPMSolver", "Denoiser", "Euler", "Guidance", "Heun",
    "Solver", "grid", "plan", "sample",
]  # fmt: skip
