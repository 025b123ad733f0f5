"""Curation killed at twenty random moments: in the end the same catalogue, and nothing half-written."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from diorama.data import Catalogue
from diorama.media import write_mp4
from tests.data.make import media_folder, picture

KILLS, SEED = 20, 0
PROGRAM = """
import sys
from diorama.cli import recipes
from diorama.data import curate, observe, store
observe.SHARD = observe.LEAST = 5
store.STORE = 4
print("go", flush=True)
curate([sys.argv[1]], sys.argv[2], recipes.policy("curate_videos", []))
"""


def start(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    """A process that curates; returns when it begins."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    process.stdout.readline()
    return process


def contents(out: Path) -> tuple[str, list[tuple[str, str, str]]]:
    """The manifest's hash, and every verdict."""
    rows = Catalogue(out).ask("select location, verdict, reason from decisions order by location").to_pylist()
    return Catalogue(out).hash(), [tuple(row.values()) for row in rows]


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path):
    folder = media_folder(tmp_path / "media", stills=12, videos=4)
    scenes = [np.repeat(np.repeat(picture(k), 4, 0), 4, 1) for k in range(3)]
    film = np.concatenate([np.stack([np.roll(scene, t, 1) for t in range(20)]) for scene in scenes])
    write_mp4(folder / "film.mp4", film, 10.0)
    straight = start(folder, tmp_path / "straight")
    began = time.monotonic()
    assert straight.wait(600) == 0
    took = time.monotonic() - began
    moments, kills, number = random.Random(SEED), 0, 0
    while kills < KILLS:
        number += 1
        out = tmp_path / f"killed{number}"
        while True:
            process = start(folder, out)
            try:
                process.wait(moments.uniform(0.0, 1.0) * took if kills < KILLS else 600)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
            if process.wait() == 0:
                break
            assert process.returncode == -signal.SIGKILL
        assert contents(out) == contents(tmp_path / "straight")
        for shard in out.rglob("*.parquet"):
            pq.read_table(shard)
        assert not [path for path in out.rglob("*") if ".tmp" in path.name]
