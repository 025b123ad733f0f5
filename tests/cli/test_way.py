"""The way through the commands, as small as it goes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diorama.data.digits import write_digits
from diorama.media import read, write_png
from diorama.train import read_log
from tests.cli.test_main import TINY, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("way") / "media", clips=18, stills=9)


@pytest.fixture(scope="module")
def catalogue(media: Path) -> Path:
    """What `diorama curate` makes of them, by its own process."""
    path = media.parent / "catalogue"
    done = diorama("curate", media, "--out", path)
    assert done.returncode == 0, done.stderr
    assert "27 clips" in done.stdout
    return path


def diorama(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_words(args), capture_output=True, text=True, timeout=600, check=False)


def _words(args: tuple[str | Path, ...]) -> list[str]:
    return [sys.executable, "-c", "from diorama.cli.main import main; main()", *map(str, args)]


def test_train_and_sample(catalogue: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    code, out, err = run(capfd, "train", TINY, "--data", catalogue, "--out", folder)
    assert code == 0, err
    assert f"diorama sample {folder} --prompt ..." in out
    assert "WARNING" not in err

    def sample(where: str, *more: str) -> bytes:
        asked = ("sample", folder, "--prompt", "a seven", "--ids", "5", "--out", tmp_path / where, *more)
        assert run(capfd, *asked)[0] == 0
        return (tmp_path / where / "000005.mp4").read_bytes()

    assert sample("a") == sample("b")
    assert sample("c", "--guidance", "5") != sample("a")
    sample("long", "--seconds", "1.5", "--then", "an eight")
    assert len(read(tmp_path / "long" / "000005.mp4").frames) == 12

    code, out, err = run(capfd, "sample", folder, "--label", "b", "--frames", "1", "--ids", "0,1")
    assert code == 0, err
    (drawn,) = (folder / "samples").iterdir()
    assert drawn.name.startswith("b-")
    assert {p.name for p in drawn.iterdir()} == {"000000.png", "000001.png", "sheet.png", "samples.jsonl"}

    write_png(tmp_path / "picture.png", np.full((32, 32, 3), 90, np.uint8))
    write_png(tmp_path / "mask.png", np.kron([[255, 0]], np.ones((32, 16)))[..., None].repeat(3, -1).astype(np.uint8))
    filled = ("--inpaint", tmp_path / "mask.png", "--of", tmp_path / "picture.png", "--set", "sampling.guidance=APG")
    code, out, err = run(capfd, "sample", folder, "--label", "b", "--frames", "1", "--out", tmp_path / "i", *filled)
    assert code == 0, err
    assert (read(tmp_path / "i" / "000000.png").frames[0, :, 16:] == 90).all(), "black is kept"
    told = json.loads((tmp_path / "i" / "samples.jsonl").read_text())
    assert (told["rule"], told["sampling"]["guidance"]) == ("APG", "APG")
    assert told["inpaint"] == str(tmp_path / "mask.png")
    code, _, err = run(capfd, "sample", folder, *filled)
    assert code == 1
    assert "add --frames 1" in err

    code, _, err = run(capfd, "train", TINY, "--data", catalogue, "--out", folder, "--seed", "1")
    assert code == 1
    assert "use another folder" in err


def test_a_folder_of_stills_without_captions(tmp_path: Path, capfd: pytest.CaptureFixture[str], media: Path) -> None:
    code, _, err = run(capfd, "curate", media / "stills", "--out", tmp_path / "c")
    assert code == 0, err
    settings = (
        "codec.codec.widths=(8, 8)", "codec.train.examples=32", "codec.train.preview_every=0",
        "denoiser.denoiser.net.widths=(8,)", "denoiser.denoiser.net.width=8", "denoiser.train.examples=32",
        "denoiser.train.preview_every=0", "sampling.steps=2", "sampling.batch=2",
    )  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    code, _, err = run(capfd, "train", "latent_video", "--data", tmp_path / "c", "--out", tmp_path / "r", *words)
    assert code == 0, err
    code, _, err = run(capfd, "sample", tmp_path / "r", "--out", tmp_path / "s")
    assert code == 0, err
    assert (tmp_path / "s" / "000000.png").exists(), "a run that met stills alone draws a still"


def test_told_to_stop_it_saves_and_goes_on(catalogue: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = ("denoiser.train.examples=2400", "denoiser.train.checkpoint_every=800")
    words = [word for setting in settings for word in ("--set", setting)]
    asked = ("train", TINY, "--data", catalogue, "--out", folder, *words)
    with subprocess.Popen(_words(asked), stderr=subprocess.PIPE, text=True) as process:
        log = folder / "denoiser" / "log.jsonl"
        for _ in range(3000):
            if (log.exists() and log.stat().st_size) or process.poll() is not None:
                break
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert "to go on: diorama train" in err
    assert not (folder / "denoiser.safetensors").exists()

    done = diorama(*asked)
    assert done.returncode == 0, done.stderr
    assert (folder / "denoiser.safetensors").exists()
    seen = [json.loads(line)["examples"] for line in log.read_text().splitlines()]
    assert seen == sorted(set(seen))
    assert seen[-1] == 2400


def test_two_processes_train_what_one_does(catalogue: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    words = "train", TINY, "--data", catalogue
    alone = diorama(*words, "--out", one)
    assert alone.returncode == 0, alone.stderr
    with socket.socket() as free:
        free.bind(("localhost", 0))
        here = f"localhost:{free.getsockname()[1]}"
    together = "--out", two, "--set", "layout.data=2", "--coordinator", here, "--processes", "2", "--process"
    runs = [
        subprocess.Popen(_words((*words, *together, str(i))), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    try:
        for process in runs:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    finally:
        for process in runs:
            process.kill()
    for stage in ("codec", "denoiser"):
        losses = [[line["loss"] for line in read_log(run / stage)] for run in (one, two)]
        assert len(losses[0]) > 1
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert diorama("sample", two, "--prompt", "a seven").returncode == 0
