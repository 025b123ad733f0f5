"""`diorama tune`, and how `diorama sample` draws by what it found."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from diorama.cli.sample import frugal
from diorama.cli.tune import tune
from diorama.core.errors import UserError
from diorama.process import RectifiedFlow
from diorama.run import Generator
from diorama.run import tune as tuning
from diorama.sample import DPMSolver, Heun, grid
from diorama.sample.plan import Restart
from diorama.sample.solver.adaptive import Adaptive
from tests.run.conftest import RUN, STILL

HOW = RUN.sampling
FOUND = grid.Fitted((1.0, 0.4, 0.0))


@pytest.fixture
def generator(monkeypatch):
    """A run that was tuned for two evaluations."""

    def tuned(folder, bucket, how, evaluations=None, steps=None):
        fits = steps == 2 or evaluations in (2, 3)
        return how.__class__(DPMSolver(2), FOUND, 2, guidance=how.guidance) if fits else None

    monkeypatch.setattr(tuning, "tuned", tuned)
    monkeypatch.setattr(tuning, "budgets", lambda *about: [2])
    monkeypatch.setattr(tuning, "stale", lambda *about: True)
    codec = SimpleNamespace(latent_shape=lambda *size: (1, 4, 4, 2))
    return SimpleNamespace(folder=None, codec=codec, denoiser=SimpleNamespace(process=RectifiedFlow()))


def test_draws_as_tuned_and_says_so(generator, capsys):
    for asked in ((2, None), (None, 2)):
        found = frugal(generator, STILL, HOW, *asked, [])
        assert (found.solver, found.grid) == (DPMSolver(2), FOUND)
        said = capsys.readouterr().out
        assert "as tuned: DPMSolver" in said
        assert "tuned for 2 evaluations" not in said
    assert frugal(generator, STILL, HOW, None, 3, []).grid == FOUND
    assert "tuned for 2 evaluations and not for 3" in capsys.readouterr().out


def test_what_is_set_comes_first(generator, capsys):
    assert frugal(generator, STILL, HOW, 2, None, ["sampling.grid=Cosine"]) is HOW
    assert frugal(generator, STILL, HOW, None, None, []) is HOW
    assert frugal(generator, STILL, HOW, 2, None, ["sampling.guidance.scale=2"]).grid == FOUND
    assert capsys.readouterr().err == ""


def test_falls_back_to_the_runs_own_way_within_the_budget(generator, capsys):
    found = frugal(generator, STILL, HOW, None, 7, [])
    assert (found.solver, found.grid, found.steps) == (Heun(), HOW.grid, 4)
    said = capsys.readouterr()
    assert "tune it again" in said.err
    assert "untuned: Heun" in said.out
    assert "`diorama tune --evaluations 7`" in said.out
    assert frugal(generator, STILL, HOW, 9, None, []) is HOW
    with pytest.raises(UserError, match="one of them"):
        frugal(generator, STILL, HOW, 2, 2, [])
    for setting in ("sampling.steps=3", "sampling.restart=Restart"):
        with pytest.raises(UserError, match="one of them"):
            frugal(generator, STILL, HOW, None, 7, [setting])
    with pytest.raises(UserError, match="decides itself"):
        frugal(generator, STILL, replace(HOW, solver=Adaptive()), None, 7, ["sampling.solver=Adaptive"])
    frugal(generator, STILL, replace(HOW, restart=Restart()), None, 7, [])
    assert "without restarts" in capsys.readouterr().out


def test_what_is_tuned_cannot_be_set(tmp_path):
    with pytest.raises(UserError, match="are what is tuned"):
        tune(tmp_path, "8", settings=["sampling.solver=Euler"], examples=2)


@pytest.fixture
def told(monkeypatch):
    """What `diorama tune` says, and what it found is made up."""
    row = {"solver": "Heun()", "steps": 2, "evaluations": 4, "error": 0.2, "low": 0.1, "high": 0.3}
    fixed = [row | {"grid": "Uniform()"}]
    found = row | {"ratio": [1.3, 1.1, 1.5], "grid": "Cosine()", "fixed": fixed, "n": 4, "reference": 1e-4}
    loaded = SimpleNamespace(run=RUN, folder=SimpleNamespace(path=Path("none")))
    monkeypatch.setattr(Generator, "load", lambda path: loaded)
    monkeypatch.setattr(tuning, "tune_run", lambda *about, **more: iter([found]))


def test_says_what_did_not_hold_and_the_whole_command(told, capsys):
    tune(Path("runs/x"), "4", frames=1, guidance=3.0, settings=["sampling.guidance=APG"], examples=4)
    said = capsys.readouterr()
    assert "2 steps on Cosine(), for fitted ones did not hold: 1.30 [1.10, 1.50]" in said.out
    assert "diorama sample runs/x --evaluations 4 --frames 1 --guidance 3.0 --set sampling.guidance=APG" in said.out
    assert "4 examples say little" in said.err
    assert "give more --examples" in said.err
