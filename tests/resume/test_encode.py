"""Encoding killed at any moment: in the end the same files, byte for byte, and nothing half-written."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diorama.codec import Codec
from diorama.core import release
from diorama.core.layout import Layout
from diorama.data import Catalogue, curate
from diorama.data.digits import write_digits
from diorama.run import Folder, latents
from diorama.run.examples import clips
from tests.net.tiny import made
from tests.run.conftest import RUN, VIDEO

ROOT = Path(__file__).resolve().parents[2]
SHARDS = 11
PROGRAM = """
import sys, time
from pathlib import Path
from diorama.run import latents
from tests.resume.test_encode import fill
write = latents.np.save

def slowly(path, array):  # half a file lies there for a while
    data = array.tobytes()
    with open(path, "wb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        time.sleep(0.02)
    write(path, array)

latents.np.save = slowly
fill(*map(Path, sys.argv[1:]))
"""


def fill(root: Path, out: Path) -> int:
    """Encode the catalogue of `root` under `out`, in small shards; how many latents that were."""
    latents.TOGETHER, latents.SHARD = 3, 2
    folder, source = Folder(root / "run"), clips(Catalogue(root / "catalogue"), VIDEO, "train")
    assert source
    cache = latents.Cache(out, latents.fingerprint(folder), source, VIDEO, folder.run().denoiser.latents)
    return cache.fill(folder.codec(), Layout(), "latents")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small catalogue, and a run with a codec."""
    root = tmp_path_factory.mktemp("encode")
    curate([write_digits(root / "media", clips=24, stills=0)], root / "catalogue", workers=1)
    config = RUN.codec.codec
    folder = Folder.claim(root / "run", RUN, Catalogue(root / "catalogue"))
    release.save(Codec.blank(made(config.init), config), folder.path / "codec.safetensors")
    return root


def start(root: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(root), str(out)], cwd=ROOT, stderr=subprocess.DEVNULL)


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != ".lock"}


def finished(out: Path) -> int:
    """How many shards are there."""
    return len(list(out.glob("latents/*/*/[!.]*/rows.parquet")))


def test_killed_at_a_few_moments(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOGETHER", "SHARD"):  # `fill` sets them
        monkeypatch.setattr(latents, name, getattr(latents, name))
    straight, killed, chance = tmp_path / "straight", tmp_path / "killed", random.Random(0)
    shards = 0
    for _ in range(3):
        process, until = start(root, killed), shards + chance.randrange(1, 4)
        while process.poll() is None and finished(killed) < until:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert shards < finished(killed) < SHARDS
        shards = finished(killed)
    assert fill(root, killed) == 21 - 2 * shards, "what was finished is not encoded again"
    assert fill(root, straight) == 21
    assert len(files(straight)) == 2 * SHARDS + 1
    assert files(killed) == files(straight)
    assert not [path for path in killed.rglob("*") if ".tmp" in path.name]
