"""The laboratory as a whole: settings, experiments in their order, and rows that a second run does not repeat."""

import importlib.util
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diorama.core.discover import kinds
from diorama.core.errors import UserError
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
    rows, begun = lab.rows(), time.monotonic()
    found: dict[str, Any] = {}
    left = [row for row in rows if not row.kept(out / "rows").exists()]
    with progress(len(left), "laboratory", "rows", show=show) as bar:
        for row in rows:
            bar.note(f"{row.experiment}: {row.name}")
            try:
                result = row.result(out / "rows")
            except Exception as error:
                if not any(one in lab.own for one in row.subjects):
                    raise
                raise UserError(f"{row.name} of your file failed in '{row.experiment}': {error!r}") from error
            found.setdefault(row.experiment, []).append(result | {"own": any(one in lab.own for one in row.subjects)})
            bar.advance(row in left)
    about = {
        "quick": lab.quick, "process": repr(lab.process), "solvers": len(lab.solvers), "rows": len(rows),
        "measured": len(left), "seconds": round(time.monotonic() - begun, 1), "machine": machine(),
    }  # fmt: skip
    results = {"about": about, **found}
    write_text(out / "lab.json", json.dumps(results, indent=1) + "\n")
    return results


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
        raise UserError(f"{path} cannot be run: {error!r}") from error
    if not found:
        raise UserError(
            f"{path} defines no solver: write a class with 'step', under diorama.sample.Solver, as in docs/adding.md"
        )
    return tuple(found)
