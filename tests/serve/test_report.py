"""The page of a run: whole, self-contained, and saying what is missing."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from diorama.core import UserError
from diorama.evaluate import Score, to_json
from diorama.run import Folder
from diorama.run.evaluate import fingerprint, neighbours_path, samples_path
from diorama.run.examples import clips
from diorama.serve.report import _duration, _figure, _grouped, _seconds, _shape, write_report
from tests.run.conftest import RUN, VIDEO
from tests.serve.page import Page


@pytest.fixture(scope="module")
def page(trained: Folder) -> Page:
    path = write_report(trained)
    assert path == trained.path / "report.html"
    assert path.stat().st_size < 6e6
    return Page(path.read_text())


def test_it_needs_nothing_beside_it(page):
    assert all(re.match(r"data:|#", address) for address in page.addresses)
    assert "script" not in page.tags
    assert "link" not in page.tags


def test_it_shows_what_a_run_has(page, trained):
    assert page.tags.count("svg") == 4
    assert "denoiser.train.learning_rate: 0.001" in page.text
    assert "videos of 9 frames" in page.text.lower()
    assert "config.txt --data" in page.text
    assert "codec 1 min 30 s, denoiser 1 min 30 s" in page.text  # 40 s, 40 s and 10 s between the stops
    words = " ".join(page.text.split())
    assert "Codec trained on 2 CPU cores a <processor>" in words
    assert "Denoiser trained on 8 H200 (gpu), 2 processes" in words


def test_it_says_what_is_missing(page, trained):
    assert page.text.count(f"diorama evaluate {trained.path}") == 3  # scores, neighbours, commands


def test_scores_and_neighbours(trained, tmp_path):
    copy = Folder(tmp_path / "scored")
    shutil.copytree(trained.path, copy.path)
    scores = [
        Score("codec PSNR (dB), still, 1x32x32", 27.5, 9, 0, "pixels", "higher"),
        Score("codec SSIM, still, 1x32x32", 0.9, 9, 0, "pixels", "higher"),
        Score("JPEG PSNR (dB), still, 1x32x32", 31.25, 9, 0, "pixels", "higher", note="800 bits a still"),
        Score("JPEG SSIM, still, 1x32x32", 0.95, 9, 0, "pixels", "higher"),
        Score("label accuracy, 9x32x32", 0.625, 8, 3, "a <judge>", "higher", 0.875, 0.125),
        Score("Fréchet distance, 9x32x32", float("nan"), 8, 3, "a <judge>", "lower", 2.0),
    ]
    copy.scores.parent.mkdir(exist_ok=True)
    copy.scores.write_text(to_json(scores))
    rng, asked = np.random.default_rng(0), {}
    for bucket in RUN.denoiser.buckets:
        asked[bucket] = clips(copy.catalogue(), bucket, "test").captions
        n = len(asked[bucket])
        media = rng.integers(0, 256, (n, bucket.frames, 32, 32, 3), np.uint8)
        np.savez(samples_path(copy, bucket), media=media, key=fingerprint(copy))
        np.savez(neighbours_path(copy, bucket), index=np.arange(n), distance=np.arange(n, 0, -1) + 0.5, threshold=1.75,
                 key=fingerprint(copy), train=n, test=n)  # fmt: skip
    (copy.scores.parent / "key.txt").write_text(fingerprint(copy))
    page = Page(write_report(copy).read_text())
    words = " ".join(page.text.split())
    assert "label accuracy ↑ 0.625 0.875 – 0.125 8 3 a <judge>" in words
    assert "Fréchet distance ↓ – 2.00" in words
    assert "codec 27.5 0.900 9 JPEG 31.2 0.950 9 800 bits a still" in words
    first, *_, last = asked[VIDEO]
    assert f"nearest of {len(asked[VIDEO])} samples; below 1.75 counts as memorised" in words
    assert f"distance 1.50 asked “{last}”" in words
    assert words.index(f"asked “{last}”") < words.index(f"asked “{first}”")  # nearest first
    assert "Stills, 32 × 32, not selected" in words
    assert f"Searched: {len(asked[VIDEO])} of" in words
    (copy.scores.parent / "key.txt").write_text("of other settings")
    assert "Nothing was measured yet" in write_report(copy).read_text()


def test_an_untrained_run_is_an_error(folder, tmp_path):
    for name in ("config.txt", "catalogue.txt", "codec.safetensors"):
        shutil.copy(folder.path / name, tmp_path / name)
    with pytest.raises(UserError, match="train the run first"):
        write_report(Folder(tmp_path))
    assert not (tmp_path / "report.html").exists()


def test_numbers_for_readers():
    assert [_figure(x) for x in (28.666, 0.6822, 36.0, 1234.5, 0.0, 1.2e-5, None, float("nan"))] == [
        "28.7", "0.682", "36.0", "1,234", "0.000", "1.2e-05", "–", "–",
    ]  # fmt: skip
    assert [_duration(s) for s in (42.4, 90, 3599.8, 7275)] == ["42 s", "1 min 30 s", "1 h 0 min", "2 h 1 min"]
    assert _shape("9x32x48") == "videos of 9 frames, 32 × 48"
    speed = {"examples_per_second": 1.0}
    clock = enumerate((1.0, 2.0, 0.5, 1.5, 1.6, 2.6))  # an example a second; stopped after 2.0, and after 1.5
    assert _seconds([{"examples": i, "seconds": s, **speed} for i, s in clock]) == 2.0 + 1.5 + 2.6
    assert _seconds([]) == 0.0


def test_scores_are_grouped_by_what_they_were_measured_on():
    def score(name: str) -> Score:
        return Score(name, 1.0, 1, 0, "pixels", "higher")

    one, two = score("codec SSIM, video, 9x8x8"), score("label accuracy, 2 at once")
    assert _grouped([one, two]) == [
        ("videos of 9 frames, 8 × 8", [("codec SSIM", one)]),
        ("", [("label accuracy, 2 at once", two)]),
    ]


def test_template_is_packaged():
    import diorama.serve

    here = Path(diorama.serve.__file__).parent
    assert (here / "report.html.j2").exists()
    assert (here / "style.css").exists()
