"""A training run that is killed, in any way and at any moment, ends as one that never was."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from diorama.core.module import paths
from diorama.train import State, examples_done, read_log, train
from diorama.train.log import TIMING
from tests.train import toy

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = 8192


def start(folder: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.train.toy", str(folder), "--examples", str(EXAMPLES), *more]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def finish(run: subprocess.Popen) -> None:
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors


def stop(run: subprocess.Popen, folder: Path, lines: int, wait: float, number: int) -> int:
    """Send a signal `wait` seconds after the run has opened its log and added `lines` to it; the exit code."""
    log, opened = folder / "log.jsonl", time.time()
    while run.poll() is None and not (log.exists() and log.stat().st_mtime > opened):
        time.sleep(0.002)
    before = len(read_log(folder))
    while run.poll() is None and len(read_log(folder)) < before + lines:
        time.sleep(0.002)
    time.sleep(wait)
    run.send_signal(number)
    print(run.communicate(timeout=300)[1])  # what it said, should the test fail
    return run.returncode


def finished(folder: Path) -> State:
    """The end of a finished run, read back from its checkpoint."""
    return train(toy.config(EXAMPLES), toy.Net.init, toy.OBJECTIVE, toy.data(), folder, seed=0)


def results(folder: Path) -> tuple:
    arrays = {path: np.asarray(x).tobytes() for path, x in paths(finished(folder)).items()}
    log = [{k: v for k, v in line.items() if k not in TIMING} for line in read_log(folder)]
    previews = {p.name: p.read_text() for p in (folder / "previews").iterdir()}
    return arrays, log, previews, sorted(p.name for p in (folder / "snapshots").iterdir())


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple:
    folder = tmp_path_factory.mktemp("straight")
    finish(start(folder))
    return results(folder)


def equal(a: tuple, b: tuple) -> None:
    for x, y in zip(a, b, strict=True):
        assert x == y


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path, straight):
    chance, kills = random.Random(0), []
    for _ in range(5):
        moment = chance.randrange(0, 12), chance.uniform(0, 0.1)
        code = stop(start(tmp_path), tmp_path, *moment, signal.SIGKILL)
        if code == 0:  # it was done before the moment came
            break
        assert code == -signal.SIGKILL
        kills.append(examples_done(tmp_path))
    finish(start(tmp_path))
    print("killed with checkpoints at", kills)
    assert any(kills)
    equal(results(tmp_path), straight)


def test_sigterm_saves_and_exits(tmp_path, straight):
    assert stop(start(tmp_path), tmp_path, 4, 0, signal.SIGTERM) == 128 + signal.SIGTERM
    done = examples_done(tmp_path)
    assert 0 < done < EXAMPLES
    assert not list((tmp_path / "checkpoints").glob("*tmp*"))
    finish(start(tmp_path))
    equal(results(tmp_path), straight)


BAD = ("--bad", "100", "105", "300")  # the second is met after the run has gone back for the first


def kill_after_events(folder: Path, events: int, wait: float) -> int:
    """SIGKILL `wait` seconds after the run has gone back so often."""
    run, path = start(folder, *BAD), folder / "events.jsonl"
    while run.poll() is None and not (path.exists() and len(path.read_text().splitlines()) >= events):
        time.sleep(0.002)
    time.sleep(wait)
    run.kill()
    run.communicate(timeout=300)
    return run.returncode


@pytest.mark.slow
def test_killed_after_it_went_back_past_a_bad_batch(tmp_path):
    finish(start(tmp_path / "straight", *BAD))
    told = (tmp_path / "straight" / "events.jsonl").read_text()
    assert len(told.splitlines()) == 3
    for events, wait in ((1, 0.0), (2, 0.02), (3, 0.1)):
        assert kill_after_events(tmp_path / "killed", events, wait) == -signal.SIGKILL
    finish(start(tmp_path / "killed", *BAD))
    assert (tmp_path / "killed" / "events.jsonl").read_text() == told
    equal(results(tmp_path / "killed"), results(tmp_path / "straight"))
