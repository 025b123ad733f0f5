"""Before a run: what it will need, how long it will take, and what of its recipe does not fit together."""

from diorama.run.plan.lints import lint
from diorama.run.plan.plan import Plan, Tried, axes, layouts, plan, size
from diorama.run.plan.roofline import Seconds, seconds

__all__ = ["Plan", "Seconds", "Tried", "axes", "layouts", "lint", "plan", "seconds", "size"]
