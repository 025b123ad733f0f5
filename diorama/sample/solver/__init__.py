"""Solvers: one file each. `Solver` says what a solver is; every other one is found by where it lies."""

from diorama.core.discover import any_of, kinds, within
from diorama.sample.solver.adaptive import Adaptive
from diorama.sample.solver.ancestral import Ancestral
from diorama.sample.solver.consistency import Consistency
from diorama.sample.solver.ddim import DDIM
from diorama.sample.solver.deis import DEIS
from diorama.sample.solver.dpm import DPMSolver
from diorama.sample.solver.dpm_single import DPMSingle
from diorama.sample.solver.edm import Churn
from diorama.sample.solver.euler import Euler
from diorama.sample.solver.exponential import SEEDS
from diorama.sample.solver.heun import Heun
from diorama.sample.solver.ipndm import IPNDM
from diorama.sample.solver.langevin import Langevin
from diorama.sample.solver.lms import LMS
from diorama.sample.solver.midpoint import Midpoint
from diorama.sample.solver.rk4 import RK4
from diorama.sample.solver.sa import SASolver
from diorama.sample.solver.solver import Denoise, Solver, advance
from diorama.sample.solver.unipc import UniPC

SOLVERS = kinds(within(__name__), Solver)
AnySolver = any_of(SOLVERS)  # what a run's configuration may name

__all__ = [
    "DDIM", "DEIS", "IPNDM", "LMS", "RK4", "SEEDS", "SOLVERS", "Adaptive", "Ancestral", "AnySolver", "Churn",
    "Consistency", "DPMSingle", "DPMSolver", "Denoise", "Euler", "Heun", "Langevin", "Midpoint", "SASolver", "Solver",
    "UniPC", "advance",
]  # fmt: skip
