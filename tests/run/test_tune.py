"""Tuning a run: what was found is kept for what it was found for, and drawn with."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from diorama.run import Folder, Generator
from diorama.run import tune as tuning
from diorama.run.tune import budgets, stale, tune_run, tuned
from diorama.sample import Euler, grid
from diorama.sample import tune as fitting
from tests.run.conftest import RUN, STILL, VIDEO

HOW = RUN.sampling


@pytest.fixture(scope="module")
def found(folder, tmp_path_factory) -> tuple[Folder, list]:
    """The tiny run, copied and tuned for 2 and 4 evaluations, among few choices and by a short reference."""
    path = tmp_path_factory.mktemp("tune") / "tiny"
    shutil.copytree(folder.path, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "REFERENCE", 8)
        patch.setattr(fitting, "candidates", lambda: (Euler(),))
        patch.setattr(fitting, "fixed_grids", lambda: (grid.Uniform(), grid.Cosine()))
        return Folder(path), list(tune_run(Folder(path), STILL, HOW, [2, 4], examples=6, quiet=True))


def test_says_what_it_found(found):
    folder, (two, four) = found
    assert (two["evaluations"], four["evaluations"]) == (2, 4)
    for one in (two, four):
        assert one["low"] <= one["error"] <= one["high"]
        assert one["ratio"][0] == pytest.approx(one["error"] / one["fixed"][0]["error"])
        assert {row["grid"] for row in one["fixed"]} == {"Uniform()", "Cosine()"}
        assert one["grid"] in ("fitted", "Uniform()", "Cosine()")
        assert one["n"] == 6
        assert 0 < one["reference"] < np.inf
    kept = json.loads((folder.path / "tuned.json").read_text())
    assert list(kept) == [str(STILL)]


def test_what_is_there_is_not_done_again(found, monkeypatch):
    folder, before = found
    monkeypatch.setattr(tuning, "tune", None)  # would fail if it were called
    assert list(tune_run(folder, STILL, HOW, [4, 2], examples=6, quiet=True)) == before[::-1]


def test_serves_what_it_was_made_for(found):
    folder, _ = found
    best = tuned(folder, STILL, HOW, evaluations=5)
    assert best.steps == 4
    assert best.guidance == HOW.guidance
    assert len(best.grid.taus) == 5
    assert tuned(folder, STILL, HOW, evaluations=3).steps == 2
    assert tuned(folder, STILL, HOW, steps=2) == tuned(folder, STILL, HOW, evaluations=2)
    assert tuned(folder, STILL, replace(HOW, batch=2, steps=9), steps=4) == replace(best, batch=2)
    assert budgets(folder, STILL, HOW) == [2, 4]
    assert budgets(folder, VIDEO, HOW) == []
    assert tuned(folder, STILL, HOW, evaluations=1) is None
    assert tuned(folder, STILL, HOW, steps=3) is None
    assert tuned(folder, VIDEO, HOW, evaluations=4) is None
    assert not stale(folder, STILL, HOW)
    assert not stale(folder, VIDEO, HOW)
    drawn = Generator.load(folder.path).draw(["a seven"], ids=np.arange(1), bucket=STILL, sampling=best)
    assert drawn.shape == (1, 1, 32, 32, 3)


def test_other_guidance_or_weights_make_it_stale(found, tmp_path):
    folder, _ = found
    other = replace(HOW, guidance=HOW.guidance.scaled(5.0))
    assert tuned(folder, STILL, other, evaluations=4) is None
    assert stale(folder, STILL, other)
    shutil.copytree(folder.path, tmp_path / "run")
    changed = Folder(tmp_path / "run")
    weights = changed.path / "denoiser.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert tuned(changed, STILL, HOW, evaluations=4) is None
    assert stale(changed, STILL, HOW)
