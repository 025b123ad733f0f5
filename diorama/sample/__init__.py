"""Sampling: noise grids, plans over frames, solvers, guidance."""

from diorama.sample import grid, plan
from diorama.sample.guidance import AnyGuidance, ClassifierFree, Denoiser, Guidance
from diorama.sample.sample import sample
from diorama.sample.solver import (
    DDIM,
    DEIS,
    IPNDM,
    LMS,
    RK4,
    SEEDS,
    Adaptive,
    Ancestral,
    AnySolver,
    Churn,
    Consistency,
    DPMSingle,
    DPMSolver,
    Euler,
    Heun,
    Langevin,
    Midpoint,
    SASolver,
    Solver,
    UniPC,
)

__all__ = [
    "DDIM", "DEIS", "IPNDM", "LMS", "RK4", "SEEDS", "Adaptive", "Ancestral", "AnyGuidance", "AnySolver", "Churn",
    "ClassifierFree", "Consistency", "DPMSingle", "DPMSolver", "Denoiser", "Euler", "Guidance", "Heun", "Langevin",
    "Midpoint", "SASolver", "Solver", "UniPC", "grid", "plan", "sample",
]  # fmt: skip
