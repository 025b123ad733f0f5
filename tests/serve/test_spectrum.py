"""The page about spectra, and the plates."""

import re

import numpy as np
import pytest

from diorama.core import UserError
from diorama.evaluate.plates import contrast_chart
from diorama.media import read, write_png
from diorama.run import Folder
from diorama.serve.plates import write_plates
from diorama.serve.spectrum import write_spectrum
from tests.serve.page import Page


@pytest.fixture(scope="module")
def written(trained: Folder):
    return write_spectrum(trained.path)


def test_the_page_of_a_run_needs_nothing_beside_it(written, trained):
    path, _ = written
    assert path == trained.path / "spectrum.html"
    text = path.read_text()
    page = Page(re.sub(r"<image [^>]*/>", "", text))
    assert all(re.match(r"data:|#", address) for address in page.addresses)
    words = " ".join(page.text.split())
    for said in ("Stills, 32 × 32", "Videos of 9 frames", "Variance by octave", "every step of sampling",
                 "When each frequency drowns", "What the codec does", "there are too few clips to tell",
                 "In one run of a thousand".lower()):  # fmt: skip
        assert said in words, said
    assert page.tags.count("svg") == 5 * 2


def test_the_figures_that_count_are_said(written):
    _, lines = written
    said = "\n".join(lines)
    assert re.search(r"data, in space: power goes as k\^-?\d\.\d\d ± \d\.\d\d", said)
    assert "latents drown at noise time: 1 cycle at 0." in said


def test_the_page_of_data(tmp_path, rng_picture):
    write_png(tmp_path / "media" / "one.png", rng_picture)
    path, lines = write_spectrum(tmp_path / "media")
    assert path == tmp_path / "media" / "spectrum.html"
    assert lines[0] == "Stills, 32 × 32: 1 clip"
    words = " ".join(Page(path.read_text()).text.split())
    assert "rectified flow" in words
    assert "every step of sampling" not in words
    path, _ = write_spectrum(tmp_path / "media" / "one.png", tmp_path / "elsewhere.html")
    assert path.exists()
    again, _ = write_spectrum(tmp_path / "media")  # the page that lies there is no picture
    assert again.exists()
    for i in range(2):
        write_png(tmp_path / "media" / f"more{i}.png", rng_picture)
    write_png(tmp_path / "media" / "small.png", rng_picture[:16])
    _, lines = write_spectrum(tmp_path / "media")
    assert lines[0] == "Stills, 32 × 32: 3 clips; 1 smaller or shorter left out"
    assert any("pixels drown in rectified flow at noise time: 1 cycle at 0." in line for line in lines)


def test_pictures_without_anything_in_them_have_a_page(tmp_path):
    write_png(tmp_path / "black.png", np.zeros((16, 16, 3), np.uint8))
    _, lines = write_spectrum(tmp_path)
    assert lines[0] == "Stills, 16 × 16: 1 clip"


def test_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match="there is no"):
        write_spectrum(tmp_path / "nowhere")


@pytest.fixture
def rng_picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 48, 3)).astype(np.uint8)


def test_plates_are_files(tmp_path, rng_picture):
    write_png(tmp_path / "mine.png", rng_picture)
    paths = write_plates(tmp_path / "plates", tmp_path / "mine.png")
    assert [path.name for path in paths] == ["bits.png", "octaves.png", "contrast.png"]
    assert all(read(path).frames.shape[1] > 64 for path in paths)
    assert read(paths[2]).frames.shape[1] > len(contrast_chart())  # a line below says what it shows
    with pytest.raises(UserError, match="cannot be used as a picture"):
        write_plates(tmp_path / "plates", tmp_path / "nothing.png")
