"""`diorama spectrum`."""

from pathlib import Path

import numpy as np
import pytest

from diorama.media import write_png
from tests.cli.test_main import run


def test_a_picture_gets_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8))
    code, out, err = run(capsys, "spectrum", tmp_path / "a.png")
    assert code == 0, err
    assert "power goes as k^" in out
    assert out.endswith(f"spectrum: {tmp_path / 'spectrum.html'}\n")


def test_plates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_png(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8))
    code, out, err = run(capsys, "spectrum", tmp_path / "a.png", "--plates", tmp_path / "plates")
    assert code == 0, err
    assert out.count("plate: ") == 3


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "spectrum", "--help")
    assert code == 0
    assert "Example:  diorama spectrum" in out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("nowhere",), "there is no nowhere"),
        (("--out", "page.html"), "name what to measure"),
        (("x.png", "--plates", "p", "--out", "page.html"), "leave out --out"),
        (("x.png", "--plates", "p"), "x.png cannot be used as a picture"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    args: tuple[str, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "spectrum", *args)
    assert (code, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1
