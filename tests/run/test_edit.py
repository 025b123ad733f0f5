"""Edits by inversion, on a run that learned nothing: what goes up comes down."""

from dataclasses import replace

import numpy as np
import pytest

from diorama.core import UserError
from diorama.run import Folder
from diorama.run.edit import edit
from diorama.run.generate import Generator
from diorama.sample import DPMSolver, Euler
from diorama.sample.grid import FromSpectrum, Uniform
from diorama.sample.invert import FixedPoint, Naive, Reversible
from diorama.sample.plan import Restart

SEVEN, THREE = ("a seven", 7), ("a three", 3)


@pytest.fixture(scope="module")
def generator(folder):
    return Generator.load(folder.path)


def run(generator, source=SEVEN, target=THREE, strength=0.7, method=Reversible, **sampling):
    clip = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    how = replace(generator.run.sampling, **{"steps": 4, "solver": Euler(), **sampling})
    return edit(generator, clip, source, target, strength=strength, method=method, sampling=how)


def test_what_is_not_changed_comes_back(generator):
    found = {method: run(generator, method=method) for method in (Reversible, FixedPoint, Naive)}
    exact = found[Reversible]
    assert exact.media.shape == exact.again.shape == (9, 32, 32, 3)
    assert exact.media.dtype == np.uint8
    assert exact.error < 1e-5
    assert found[FixedPoint].error < 1e-4
    assert found[Naive].error > 10 * exact.error
    assert (exact.media != exact.again).any()
    assert np.isnan(found[Naive].residual)


def test_an_edit_into_the_same_words_without_guidance_is_the_round_trip(generator):
    found = run(generator, target=SEVEN, guidance=generator.run.sampling.guidance.scaled(1.0))
    np.testing.assert_array_equal(found.media, found.again)


def test_a_grid_from_the_spectrum_is_fitted_first(generator, monkeypatch):
    def fitted(folder, run):
        assert run.sampling.grid == FromSpectrum()
        return replace(run, sampling=replace(run.sampling, grid=Uniform()))

    monkeypatch.setattr(Folder, "fitted", fitted)
    assert run(generator, grid=FromSpectrum(), steps=2).error < 1e-5


def test_what_cannot_be_edited(generator):
    for strength in (0.0, 1.5):
        with pytest.raises(UserError, match="noise time"):
            run(generator, strength=strength)
    with pytest.raises(UserError, match="remembers"):
        run(generator, solver=DPMSolver())
    with pytest.raises(UserError, match="restart=None"):
        run(generator, restart=Restart(0.2, 0.5))
