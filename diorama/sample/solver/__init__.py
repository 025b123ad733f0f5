"""Solvers: one file each. `Solver` says what a solver is; every other one is found by where it lies."""

from diorama.core.discover import any_of, kinds, within
from diorama.sample.solver.ddim import DDIM
from diorama.sample.solver.dpm import DPMSolver
from diorama.sample.solver.euler import Euler
from diorama.sample.solver.heun import Heun
from diorama.sample.solver.solver import Denoise, Solver

SOLVERS = kinds(within(__name__), Solver)
AnySolver = any_of(SOLVERS)  # what a run's configuration may name

__all__ = ["DDIM", "SOLVERS", "AnySolver", "DPMSolver", "Denoise", "Euler", "Heun", "Solver"]
