"""`diorama tune`, and how `diorama sample` draws by what it found."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from diorama.cli.sample import frugal
from diorama.cli.tune import tune
from diorama.core.errors import UserError
from diorama.process import RectifiedFlow
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
        fits = 2 in (steps, evaluations)
        return how.__class__(DPMSolver(2), FOUND, 2, guidance=how.guidance) if fits else None

    monkeypatch.setattr(tuning, "tuned", tuned)
    monkeypatch.setattr(tuning, "stale", lambda *about: True)
    codec = SimpleNamespace(latent_shape=lambda *size: (1, 4, 4, 2))
    return SimpleNamespace(folder=None, codec=codec, denoiser=SimpleNamespace(process=RectifiedFlow()))


def test_draws_as_tuned_and_says_so(generator, capsys):
    for asked in ((2, None), (None, 2)):
        found = frugal(generator, STILL, HOW, *asked, [])
        assert (found.solver, found.grid) == (DPMSolver(2), FOUND)
        assert "as tuned: DPMSolver" in capsys.readouterr().out


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
