"""The laboratory as a whole: settings, experiments in their order, and rows that a second run does not repeat."""

import importlib.util
import inspect
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diorama.core.discover import kinds
from diorama.core.errors import UserError, fault
from diorama.core.files import write_text
from diorama.core.machine import machine
from diorama.core.progress import progress
from diorama.evaluate.lab import bias, conversions, cost, errors, guided, inversions, orders, spectra
from diorama.evaluate.lab.row import Row
from diorama.process import EDM, Process
from diorama.sample import Solver
from diorama.sample.solver import SOLVERS

EXPERIMENTS = (conversions, orders, errors, bias, guided, spectra, inversions, cost)


@dataclass(frozen=True)
class Lab:
    """What to measure.

    Args:
        quick: fewer examples, steps and problems: to see whether something works, not to cite.
        process: the one that solvers walk where errors and biases are measured.
        own: a user's solvers, beside all of Diorama's.
    """

    quick: bool = False
    process: Process = field(default_factory=EDM)
    own: tuple[Solver, ...] = ()

    @property
    def solvers(self) -> tuple[Solver, ...]:
        return (*(setting for kind in SOLVERS for setting in kind.examples()), *self.own)

    def rows(self) -> list[Row]:
        return [row for experiment in EXPERIMENTS for row in experiment.rows(self.quick, self.process, self.solvers)]


def run(lab: Lab, out: Path, show: bool = True) -> dict[str, Any]:
    """Everything measured, by experiment, and `about`; also as `out`/lab.json. What was measured before is read back.

    Raises `UserError` where a user's own solver fails.
    """
    rows, begun, kept = lab.rows(), time.monotonic(), out / "rows"
    left = [row for row in rows if not row.kept(kept).exists()]
    for solver in lab.own:
        _check(solver, lab.process)
    with progress(len(left), "laboratory", "rows", show=show) as bar:
        for row in sorted(left, key=lambda row: not row.of(lab.own)):  # a user's own first: they are what is waited for
            bar.note(f"{row.experiment}: {row.name}")
            try:
                row.result(kept)
            except Exception as error:
                if not row.of(lab.own):
                    raise
                raise _failed(
                    next(one for one in row.subjects if one in lab.own), f" in '{row.experiment}'", error
                ) from error
            bar.advance()
    found: dict[str, Any] = {}
    for row in rows:
        found.setdefault(row.experiment, []).append(row.result(kept) | {"own": row.of(lab.own)})
    about = {
        "quick": lab.quick, "process": repr(lab.process), "solvers": len(lab.solvers), "rows": len(rows),
        "measured": len(left), "seconds": round(time.monotonic() - begun, 1), "machine": machine(),
    }  # fmt: skip
    results = {"about": about, **found}
    write_text(out / "lab.json", json.dumps(results, indent=1) + "\n")
    return results


def _check(solver: Solver, process: Process) -> None:
    """One step of a user's solver. Raises `UserError` where it fails or does not return what steps return."""
    try:
        stepped = errors.one_step(solver, process)
    except Exception as error:
        raise _failed(solver, "", error) from error
    if not (isinstance(stepped, tuple) and len(stepped) == 2):
        where = inspect.getfile(type(solver))
        given = f"a tuple of {len(stepped)}" if isinstance(stepped, tuple) else f"{type(stepped).__name__} alone"
        raise UserError(f"{where}: step() of {solver} returned {given}: it must return the pair (x, carry)")


def _failed(solver: Solver, where: str, error: Exception) -> UserError:
    return UserError(f"{solver} of your file failed{where}: {fault(Path(inspect.getfile(type(solver))), error)}")


def own_solvers(path: Path) -> tuple[Solver, ...]:
    """The settings to show (`examples()`) of the solvers that the Python file `path` defines.

    The file is run. Raises `UserError` where there is none, where it fails, or where it defines no solver.
    """
    if path.suffix != ".py" or not path.is_file():
        raise UserError(f"there is no Python file {path}: --solver takes one that defines a subclass of Solver")
    name = f"own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where `inspect` and dataclasses look
    try:
        spec.loader.exec_module(module)
        found = [setting for kind in kinds([module], Solver) for setting in kind.examples()]
    except (Exception, SystemExit) as error:
        raise UserError(f"your file cannot be run: {fault(path, error)}") from error
    if not found:
        raise UserError(
            f"{path} defines no solver: write a class with 'step', under diorama.sample.Solver, as in docs/adding.md"
        )
    return tuple(found)
