"""Commands on a cascade."""

import json
from pathlib import Path

import numpy as np
import pytest

from diorama.cli import recipes
from diorama.data import curate
from diorama.data.digits import write_digits
from diorama.media import read
from diorama.run import Folder
from diorama.run.cascade import CascadeFolder
from tests.cli.test_main import run

RECIPE = str(Path(__file__).with_name("tiny_cascade.py"))


def test_what_is_for_one_run_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = CascadeFolder.put(tmp_path / "c", recipes.trainable(RECIPE, [])).path  # type: ignore[arg-type]
    for words, said in (
        (("sample", folder, "--first", "a.png"), "--first is for one run"),
        (("sample", folder, "--evaluations", "3"), "--evaluations is for one run"),
        (("sample", folder, "--set", "sampling.steps=3"), r"only stages.N.sampling.* can change"),
        (("sample", folder), "is not a run"),
        (("evaluate", folder, "--guidance-sweep"), "sweep the guidance of its base"),
    ):
        code, _, err = run(capfd, *words)
        assert code == 1
        assert said in err


@pytest.mark.slow
def test_train_sample_and_evaluate(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    curate([write_digits(tmp_path / "media", clips=18, stills=0)], tmp_path / "data", workers=1)
    folder = tmp_path / "c"
    code, out, err = run(capfd, "train", RECIPE, "--data", tmp_path / "data", "--out", folder)
    assert code == 0, err
    assert "small: 5x8x8: " in out
    for stage in ("small", "large"):
        for part in ("latents", "denoiser", "denoiser: batches of 1 shape"):
            assert f"{stage} {part}" in err
    files = [folder / name / "denoiser.safetensors" for name in ("small", "large")]
    written = [file.stat().st_mtime_ns for file in files]
    assert run(capfd, "train", RECIPE, "--data", tmp_path / "data", "--out", folder)[0] == 0
    assert [file.stat().st_mtime_ns for file in files] == written  # nothing was left to do

    def sample(where: str, *more: str) -> np.ndarray:
        asked = ("sample", folder, "--label", "7", "--ids", "5", "--out", tmp_path / where, *more)
        code, _, err = run(capfd, *asked)
        assert code == 0, err
        return read(tmp_path / where / "000005.gif").frames

    first = sample("a")
    assert first.shape == (5, 16, 16, 3)
    np.testing.assert_array_equal(sample("b"), first)
    assert (sample("noisy", "--augmentation", "0.5") != first).any()
    about = json.loads((tmp_path / "noisy" / "samples.jsonl").read_text())
    assert about["large"]["augmentation"] == "0.5"
    assert run(capfd, "sample", folder / "large")[2].endswith("name the folder of the whole cascade\n")
    code, out, err = run(capfd, "evaluate", folder, "--samples", "2")
    assert code == 0, err
    assert "memorised" in out
    assert Folder(folder / "large").written().evaluation.samples == 2
