"""Rows are measured once, and again when what decides them changed; a user's solver comes from a file."""

import json
from dataclasses import dataclass
from functools import partial

import pytest

from diorama.core.errors import UserError
from diorama.evaluate.lab import conversions
from diorama.evaluate.lab import lab as module
from diorama.evaluate.lab.lab import Lab, own_solvers, run
from diorama.evaluate.lab.row import Row, code
from diorama.process import EDM, PROCESSES
from diorama.sample import Heun
from diorama.sample.solver import SOLVERS

MINE = """
from dataclasses import dataclass
from diorama.sample import Solver

@dataclass(frozen=True)
class Mine(Solver):
    '''Euler's step.'''

    def step(self, denoise, process, x, tau, tau_next, noise, carry):
        here = denoise(x, tau)
        return process.add_noise(here.x0, here.epsilon, tau_next), carry
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


@dataclass(frozen=True)
class Toy:
    """An experiment with one row a process, which counts how often it measures."""

    measured: list
    stop_at: list

    def rows(self, quick, process, solvers):
        return [Row("toy", str(one), quick, (one,), partial(measure, self, one)) for one in (process, *solvers)]


def measure(toy, one):
    if len(toy.measured) in toy.stop_at:
        raise KeyboardInterrupt
    toy.measured.append(one)
    if "Broken" in type(one).__name__:
        raise ValueError("no step")
    return {"value": 1.5}


@pytest.fixture
def toy(monkeypatch):
    toy = Toy([], [])
    monkeypatch.setattr(module, "EXPERIMENTS", (toy,))
    return toy


def test_what_was_measured_is_read_back(toy, tmp_path):
    first = run(Lab(quick=True, process=EDM()), tmp_path, show=False)
    assert len(toy.measured) == len(first["toy"]) == 1 + len(Lab().solvers)
    assert first["about"]["measured"] == len(toy.measured)
    again = run(Lab(quick=True, process=EDM()), tmp_path, show=False)
    assert again["toy"] == first["toy"] == json.loads((tmp_path / "lab.json").read_text())["toy"]
    assert again["about"]["measured"] == 0
    run(Lab(quick=False, process=EDM()), tmp_path, show=False)
    assert len(toy.measured) == 2 * len(first["toy"])


def test_a_run_that_was_stopped_goes_on(toy, tmp_path):
    toy.stop_at.append(3)
    with pytest.raises(KeyboardInterrupt):
        run(Lab(), tmp_path, show=False)
    toy.stop_at.clear()
    found = run(Lab(), tmp_path, show=False)
    assert found["about"]["measured"] == len(found["toy"]) - 3


def test_every_solver_and_every_process_has_rows():
    names = {(row.experiment, row.name) for row in Lab(quick=True).rows()}
    for setting in (setting for kind in SOLVERS for setting in kind.examples()):
        kinds = ("bias", "cost") if setting.stochastic else ("orders", "errors")
        assert (kinds[0], str(setting)) in names
    assert sum(experiment == "conversions" for experiment, _ in names) == len(PROCESSES) - 1  # one is none by itself
    assert len(names) == len(Lab(quick=True).rows())


def test_the_fingerprint_is_that_of_the_code_and_the_settings(mine):
    import sys

    row = conversions.rows(False, EDM(), ())[0]
    assert row.fingerprint == conversions.rows(False, EDM(), ())[0].fingerprint
    assert Row(row.experiment, row.name, (1,), row.subjects, row.measure).fingerprint != row.fingerprint
    told = "\n".join(code([sys.modules[Heun.__module__]]))
    assert "class Heun" in told
    assert "class Process" in told  # what it uses, too
    (solver,) = own_solvers(mine)
    before = Row("toy", "mine", (), (solver,), row.measure).fingerprint
    mine.write_text(MINE.replace("Euler's", "My"))
    (solver,) = own_solvers(mine)
    assert Row("toy", "mine", (), (solver,), row.measure).fingerprint != before


def test_a_users_solver_is_one_of_all(toy, mine, tmp_path):
    found = run(Lab(own=own_solvers(mine)), tmp_path / "out", show=False)["toy"]
    assert [row["name"] for row in found if row["own"]] == ["Mine()"]


def test_what_is_wrong_with_a_file_is_said(toy, mine, tmp_path):
    with pytest.raises(UserError, match=r"there is no Python file .*none\.py"):
        own_solvers(tmp_path / "none.py")
    mine.write_text("x = 1")
    with pytest.raises(UserError, match="defines no solver: write a class with 'step'"):
        own_solvers(mine)
    mine.write_text("import nothing_of_that_name")
    with pytest.raises(UserError, match=r"cannot be run: .*mine\.py, line 1: ModuleNotFoundError"):
        own_solvers(mine)
    mine.write_text("raise SystemExit(3)")
    with pytest.raises(UserError, match=r"mine\.py, line 1: SystemExit: 3"):
        own_solvers(mine)
    mine.write_text("x = 1\nclass Mine(:")
    with pytest.raises(UserError, match=r"mine\.py, line 2: SyntaxError: invalid syntax: class Mine\(:"):
        own_solvers(mine)
    mine.write_text(MINE.replace("Mine", "Broken"))
    with pytest.raises(UserError, match=r"Broken\(\) of your file failed in 'toy': .*mine\.py: ValueError: no step"):
        run(Lab(own=own_solvers(mine)), tmp_path / "out", show=False)
    assert len(toy.measured) == 1  # a user's own comes first


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("here.x0", r"mine\.py: step\(\) of Mine\(\) returned .*Array.* alone: it must return the pair \(x, carry\)"),
        ("here.x0, carry, 1", r"returned a tuple of 3: it must return the pair \(x, carry\)"),
        ("here.data, carry", r"Mine\(\) of your file failed: .*mine\.py, line 11: AttributeError: .*'data'"),
    ],
)
def test_a_step_that_is_none_is_told_before_anything_is_measured(toy, mine, tmp_path, returned, said):
    mine.write_text(MINE.replace("process.add_noise(here.x0, here.epsilon, tau_next), carry", returned))
    with pytest.raises(UserError, match=said):
        run(Lab(own=own_solvers(mine)), tmp_path / "out", show=False)
    assert not toy.measured
