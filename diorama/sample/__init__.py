"""Sampling: noise grids, plans over frames, solvers, guidance."""

from diorama.sample import grid, plan
from diorama.sample.dpm import DPMSolver
from diorama.sample.guidance import Denoiser, classifier_free
from diorama.sample.sample import sample
from diorama.sample.solver import DDIM, Euler, Heun, Solver

__all__ = ["DDIM", "DPMSolver", "Denoiser", "Euler", "Heun", "Solver", "classifier_free", "grid", "plan", "sample"]
