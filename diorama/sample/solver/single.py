"""The solvers of the ODE that remember nothing from step to step: those that can be walked with other times inside."""

from diorama.sample.solver.dpm_single import DPMSingle
from diorama.sample.solver.euler import Euler
from diorama.sample.solver.heun import Heun
from diorama.sample.solver.midpoint import Midpoint
from diorama.sample.solver.rk4 import RK4

Single = Euler | Heun | Midpoint | RK4 | DPMSingle
