"""Averages made after training: the command's folder samples as any run, and the sweep measures what it says."""

import json
import shutil
from functools import partial

import jax
import numpy as np
import pytest

from diorama.cli.average import _widths
from diorama.core import UserError
from diorama.core.module import paths
from diorama.run import Folder
from diorama.run.average import DRAWS, average_run, averaged, sweep_averages
from diorama.serve.average import draw_averages
from diorama.train import Train
from diorama.train.checkpoint import Checkpoints
from diorama.train.state import State
from tests.net.tiny import made
from tests.run.conftest import RUN

CONFIG = Train(400, ema_std=(0.05, 0.1))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A run whose weights stood still: all of its snapshots hold its denoiser."""
    path = tmp_path_factory.mktemp("averaged") / "run"
    shutil.copytree(folder.path, path, ignore=shutil.ignore_patterns("evaluation"))
    model = made(partial(RUN.denoiser.denoiser.init, channels=4), seed=1)
    state = jax.jit(lambda model: State.init(model, CONFIG))(model)
    checkpoints = Checkpoints(path / "denoiser", CONFIG)
    for examples in (100, 200, 300, 400):
        checkpoints.snapshot(state, examples)
    checkpoints.close()
    return Folder(path)


def test_an_average_is_a_run_of_its_own(trained, tmp_path):
    out = tmp_path / "out"
    made = average_run(trained, 0.07, 300, out)
    own, found = paths(trained.denoiser()), paths(made.denoiser())
    for path, x in own.items():  # weights that did not move are their own average, of any width
        np.testing.assert_allclose(found[path], x, rtol=1e-5, atol=1e-6)
    assert made.written() == trained.written()
    assert paths(made.codec()).keys() == paths(trained.codec()).keys()
    assert json.loads((out / "average.json").read_text())["std"] == 0.07
    assert average_run(trained, 0.07, 300, out).path == out, "again is the same"
    with pytest.raises(UserError, match="something else"):
        average_run(trained, 0.1, 300, out)
    with pytest.raises(UserError, match="something else"):
        average_run(trained, 0.1, None, trained.path)


def test_the_loss_of_weights_that_stood_still_is_their_own(trained, tmp_path):
    rows, n = sweep_averages(trained, [0.06, 0.1])
    kept = json.loads((trained.path / "evaluation" / "averages.json").read_text())
    assert [row.std for row in rows] == [0.06, 0.1]
    assert (kept["n"], kept["draws"]) == (n, DRAWS)
    for row in rows:
        assert row.loss == pytest.approx(kept["own"], rel=1e-4)
        assert abs(row.difference) <= 1e-4 * kept["own"]
        assert 0 <= row.margin < 1e-3 * kept["own"]
    assert draw_averages(rows, tmp_path / "averages.svg").read_text().lstrip().startswith("<?xml")


def test_what_cannot_be_averaged_is_said(folder, trained):
    with pytest.raises(UserError, match="snapshot_every"):
        averaged(folder, 0.1)
    with pytest.raises(UserError, match="at most 400"):
        averaged(trained, 0.1, 500)
    with pytest.raises(UserError, match="between 0 and"):
        averaged(trained, 0.3)
    with pytest.raises(UserError, match="--sweep"):
        _widths("0.05,wide")
    assert _widths("0.1,0.05") == [0.05, 0.1]
