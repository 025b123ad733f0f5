"""A sweep over guidance scales: what is drawn, what is measured, and what is kept."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from diorama.core import UserError
from diorama.core.files import write_text
from diorama.run import Evaluation, Folder, Generator
from diorama.run.examples import clips
from diorama.run.sweep import TIMES, _spread, colours, sweep_run
from diorama.sample import Euler
from tests.run.conftest import RUN, STILL

STILLS = replace(STILL, kind="any")
SMALL = replace(
    RUN,
    sampling=replace(RUN.sampling, solver=Euler()),
    denoiser=replace(RUN.denoiser, buckets=(STILLS,)),
    evaluation=Evaluation(samples=4, labels="digits", classifier_steps=2),
)


@pytest.fixture(scope="module")
def swept(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("swept") / "run"
    shutil.copytree(folder.path, path, ignore=shutil.ignore_patterns("evaluation"))
    write_text(path / "config.txt", SMALL.text())
    return Folder(path), sweep_run(Folder(path), (1.0, 4.0))


def test_every_scale_is_measured_beside_real_clips(swept):
    folder, (found,) = swept
    by = {measure.name: measure for measure in found.measures}
    assert {"diversity", "clipped", "contrast", "colourfulness", "label accuracy"} <= set(by)
    assert all(len(measure.values) == 2 for measure in found.measures)
    assert by["contrast"].values[0] != by["contrast"].values[1]
    assert (found.n, found.seed, found.rule) == (4, 0, "ClassifierFree against Null")
    assert found.shown.shape == (len(found.prompts), 2, 1, 32, 32, 3)
    assert json.loads((folder.path / "evaluation" / "guidance.json").read_text())[0]["scales"] == [1.0, 4.0]
    assert found.table().splitlines()[0].split()[0] == "guidance"


def test_the_same_noise_at_every_scale_and_other_noise_for_each_sample(swept):
    folder, (found,) = swept
    files = sorted((folder.path / "evaluation").glob("guidance-*.npz"))
    one, four = (np.load(file)["media"] for file in files)
    assert len(one) == 4 + found.varied * (TIMES - 1)
    assert len({clip.tobytes() for clip in one}) == len(one)
    assert (one != four).any()
    source = Generator.load(folder.path)
    held = clips(folder.catalogue(), STILLS, "test")
    again = source.draw(held.captions[:1], held.labels[:1], ids=np.arange(1), bucket=STILLS, scales=np.array([4.0]))
    np.testing.assert_array_equal(again[0], four[0])


def test_what_was_drawn_is_not_drawn_again(swept, monkeypatch):
    folder, before = swept
    monkeypatch.setattr(Generator, "draw", lambda *args, **kwargs: pytest.fail("drawn again"))
    (again,) = sweep_run(folder, (1.0, 4.0))
    np.testing.assert_array_equal(again.shown, before[0].shown)
    for measure, other in zip(again.measures, before[0].measures, strict=True):
        np.testing.assert_array_equal(measure.values, other.values)


def test_scales_that_hardly_differ_are_drawn_apart(swept, monkeypatch):
    drawn = []

    def draw(self, prompts, labels, *, scales, **more):
        drawn.append(float(scales[0]))
        return np.zeros((len(prompts), 1, 32, 32, 3), np.uint8)

    monkeypatch.setattr(Generator, "draw", draw)
    sweep_run(swept[0], (1.0, 1.000001))
    assert drawn == [pytest.approx(1.000001, abs=1e-7)]


def test_a_run_that_takes_no_conditions_has_nothing_to_sweep(tmp_path):
    bare = replace(SMALL.denoiser, denoiser=replace(SMALL.denoiser.denoiser, conditions={}))
    write_text(tmp_path / "config.txt", replace(SMALL, denoiser=bare).text())
    with pytest.raises(UserError, match="takes no conditions"):
        sweep_run(Folder(tmp_path))


def test_colours_of_known_clips():
    grey = np.full((2, 1, 4, 4, 3), 100, np.uint8)
    assert colours(grey) == {"clipped": 0.0, "contrast": 0.0, "colourfulness": 0.0}
    red = np.zeros((1, 1, 4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert colours(red) == pytest.approx({"clipped": 1.0, "contrast": 2**0.5 / 3, "colourfulness": 1.0})


def test_the_spread_of_groups():
    features = np.asarray([[0.0], [3.0], [10.0], [11.0], [99.0]])
    assert _spread(features, [[0, 1], [2, 3], [4]]) == 2.0
    assert np.isnan(_spread(features, [[0], []]))
