"""`diorama encode`: what it says, what it refuses, how it stops."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diorama.cli import recipes
from diorama.codec import Codec, PixelCodecConfig
from diorama.core import release
from diorama.data import Catalogue, curate
from diorama.data.digits import write_digits
from diorama.run import CodecStage, Folder
from tests.cli.test_main import TINY, run
from tests.net.tiny import made

MAIN = "from diorama.cli.main import main; main()"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue `c`, and runs on it: `r` with a codec, `pixels` with none, `new` with one that is not trained."""
    root = tmp_path_factory.mktemp("encode")
    curate([write_digits(root / "media", clips=18, stills=9)], root / "c", workers=1)
    tiny, catalogue = recipes.resolve(TINY, []), Catalogue(root / "c")
    folder = Folder.claim(root / "r", tiny, catalogue)
    codec = Codec.blank(made(tiny.codec.codec.init), tiny.codec.codec)  # type: ignore[union-attr, arg-type]
    release.save(codec, folder.path / "codec.safetensors")
    Folder.claim(root / "pixels", replace(tiny, codec=CodecStage(PixelCodecConfig())), catalogue)
    Folder.claim(root / "new", tiny, catalogue)
    return root


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with nothing encoded, as the working folder."""
    shutil.copytree(place, tmp_path / "here", ignore=shutil.ignore_patterns("latents"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "encode", "--help")
    assert code == 0
    assert "Example:  diorama encode c --codec runs/latent_video --flips" in out


def test_what_it_says(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "encode", "c", "--codec", "r")
    assert code == 0, err
    videos, stills = (len(Catalogue(here / "c").clips("train").filter(k)) for k in _kinds(here))
    size = videos * 3 * 4 * 4 * 2 * 4 / 1e6
    assert f"9x32x32: {videos} latents encoded and 0 there already, of {videos} clips, {size:.1f} MB" in out
    assert f"1x32x32: {videos + stills} latents encoded" in out  # also the first frames of videos
    assert "3 x 4 x 4 x 2 each; over channels the mean is" in out
    assert "latents 9x32x32" in err
    code, out, _ = run(capsys, "encode", "c", "--codec", "r", "--flips", "--crops", "2")
    assert code == 0
    assert f"9x32x32: {3 * videos} latents encoded and {videos} there already, of {videos} clips" in out
    code, out, _ = run(capsys, "encode", "c", "--codec", "r", "--flips", "--set", "denoiser.latents.crops=2")
    assert f"9x32x32: 0 latents encoded and {4 * videos} there already" in out
    [told] = here.glob("c/latents/*/9x32x32.stride1.float32/statistics.json")
    assert json.loads(told.read_text())["latents"] == 4 * videos
    code, out, _ = run(capsys, "encode", "c", "--codec", "r", "--set", "denoiser.buckets.0.frames=5")
    assert f"5x32x32: {videos} latents encoded" in out


def _kinds(root: Path) -> list[np.ndarray]:
    kinds = np.array(Catalogue(root / "c").clips("train")["kind"].to_pylist())
    return [kinds == "video", kinds == "image"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("encode", "c", "--codec", "pixels"), "pixels is trained on pixels, so there is nothing to encode"),
        (("encode", "c", "--codec", "new"), "codec.safetensors is not there: train the run first"),
        (("encode", "c", "--codec", "c"), "c is not a run"),
        (("encode", "nowhere", "--codec", "r"), "there is no folder nowhere"),
        (("encode", "c", "--codec", "r", "--release", "v1"), "c has no release 'v1'"),
        (("encode", "c", "--codec", "r", "--set", "seed=3"), "only denoiser.buckets.*, denoiser.latents.*, layout.*"),
        (("encode", "c", "--codec", "r", "--set", "layout.data=64"), "needs 64 devices"),
        (
            ("encode", "c", "--codec", "r", "--set", "denoiser.buckets.0.frames=99",
             "--set", "denoiser.buckets.1.frames=98"),
            "no training clip for any bucket (99x32x32, 98x32x32)",
        ),
    ],
)  # fmt: skip
def test_what_it_refuses(
    args: tuple[str, ...], said: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    code, out, err = run(capsys, *args)
    assert (code, out) == (1, "")
    assert said in err
    assert err.count("diorama: ") == 1
    assert not (place / "c" / "latents").exists()


def test_wrong_command_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "encode", "c")[0] == 2
    assert run(capsys, "encode", "c", "--codec", "r", "--crops", "0")[0] == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_told_to_stop(number: int, code: int, here: Path) -> None:
    asked = [sys.executable, "-c", MAIN, "encode", "c", "--codec", "r"]

    def heeding() -> None:  # a shell has its background jobs ignore Ctrl-C, and theirs too
        signal.signal(number, signal.SIG_DFL)

    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(asked, preexec_fn=heeding, **pipes) as process:
        while not any(here.glob("c/latents/*/*/.lock")) and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "diorama: stopped: run the same command again to go on\n" in err
    assert "Traceback" not in err
    assert not [path for path in here.rglob("*") if ".tmp" in path.name]


@pytest.mark.slow
def test_two_processes_encode_what_one_does(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    asked = [sys.executable, "-c", MAIN, "encode", "c", "--codec", "r", "--flips", "--set", "layout.data=2"]
    asked += ["--coordinator", address, "--processes", "2", "--process"]
    runs = [
        subprocess.Popen([*asked, str(i)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for i in range(2)
    ]
    try:
        for process in runs:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    finally:
        for process in runs:
            process.kill()
    assert len(list(here.glob("c/latents/*/*/*/latents.npy"))) == 4  # of each bucket one by each process
    told = {p.parent.name: json.loads(p.read_text()) for p in here.glob("c/latents/*/*/statistics.json")}
    code, out, _ = run(capsys, "encode", "c", "--codec", "r", "--flips")
    assert code == 0
    assert out.count(" 0 latents encoded") == 2
    shutil.rmtree(here / "c" / "latents")
    run(capsys, "encode", "c", "--codec", "r", "--flips")
    alone = {p.parent.name: json.loads(p.read_text()) for p in here.glob("c/latents/*/*/statistics.json")}
    assert alone.keys() == told.keys()
    for name, statistics in alone.items():
        assert statistics["latents"] == told[name]["latents"]
        np.testing.assert_allclose(statistics["spectrum"], told[name]["spectrum"], rtol=1e-6)
