"""Many devices, simulated or in two processes, give the losses of one."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from diorama.core import UserError
from diorama.train import examples_done, load_model, read_log
from diorama.train.checkpoint import _position_of
from tests.shared import simulated
from tests.train import toy

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = 1600


def start(folder: Path, devices: int, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.train.toy", str(folder), "--examples", str(EXAMPLES), *more]
    return subprocess.Popen(command, cwd=ROOT, env=simulated(devices), stderr=subprocess.PIPE, text=True)


def finish(*runs: subprocess.Popen, code: int = 0) -> None:
    try:
        for run in runs:
            _, errors = run.communicate(timeout=300)
            assert run.returncode == code, errors
    finally:
        for run in runs:
            run.kill()


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    finish(start(folder, 1))
    return folder


def agree(a: Path, b: Path) -> float:
    """Losses along the run and the model at its end, within 1e-5; returns the largest relative difference of a loss."""
    one, many = read_log(a), read_log(b)
    assert [line["examples"] for line in one] == [line["examples"] for line in many]
    losses = np.array([[line[k] for line in log] for log in (one, many) for k in ("loss",)])
    worst = float(np.abs(losses[1] / losses[0] - 1).max())
    assert worst < 1e-5
    for which in ("model", "ema0"):
        x, y = (load_model(folder, toy.Net.init, which) for folder in (a, b))
        np.testing.assert_allclose(x.inner, y.inner, atol=2e-4)
    return worst


@pytest.mark.slow
@pytest.mark.parametrize("layout", [(8, 1), (1, 8), (2, 4)], ids=lambda x: f"data{x[0]}-fsdp{x[1]}")
def test_eight_devices_equal_one(tmp_path, single, layout):
    finish(start(tmp_path, 8, "--layout", *map(str, layout)))
    print("largest relative difference of a loss", agree(single, tmp_path))


def pair(folder: Path, layout: tuple[int, ...], examples: int = EXAMPLES) -> list[subprocess.Popen]:
    """Two processes of one device each, joined on this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    more = ["--layout", *map(str, layout), "--examples", str(examples)]
    return [start(folder, 1, *more, "--process", str(i), port) for i in range(2)]


@pytest.mark.parametrize("layout", [(2, 1), (1, 2), (1, 1, 2)], ids=["data2", "fsdp2", "tensor2"])
def test_two_processes_equal_one(tmp_path, single, layout):
    finish(*pair(tmp_path, layout))
    print("largest relative difference of a loss", agree(single, tmp_path))
    assert examples_done(tmp_path) == EXAMPLES


@pytest.mark.slow
def test_two_processes_stop_together(tmp_path):
    runs = pair(tmp_path, (1, 2), examples=1_000_000)  # the word takes a second or two to go round
    while runs[1].poll() is None and len(read_log(tmp_path)) < 2:
        time.sleep(0.01)
    runs[1].send_signal(signal.SIGTERM)  # told to one alone
    finish(*runs, code=128 + signal.SIGTERM)
    assert 0 < examples_done(tmp_path) < 1_000_000


def stopped(folder: Path, devices: int, layout: tuple[int, ...], after: int) -> None:
    """A run on so many devices that is told to stop after so many examples."""
    finish(start(folder, devices, "--layout", *map(str, layout), "--stop", str(after)), code=128 + signal.SIGTERM)


@pytest.mark.slow
def test_on_eight_devices_then_four_then_one(tmp_path, single):
    stopped(tmp_path, 8, (2, 4), 480)
    assert 0 < examples_done(tmp_path) < 640
    stopped(tmp_path, 4, (1, 4), 480)
    assert 640 < examples_done(tmp_path) < EXAMPLES
    finish(start(tmp_path, 1))
    worst = agree(single, tmp_path)
    print("largest relative difference of a loss", worst)
    assert worst < 1e-6


@pytest.mark.slow
def test_in_the_same_layout_bit_for_bit(tmp_path):
    layout = ("--layout", "2", "4")
    finish(start(tmp_path / "straight", 8, *layout))
    stopped(tmp_path / "stopped", 8, (2, 4), 480)
    finish(start(tmp_path / "stopped", 8, *layout))
    models = [load_model(tmp_path / name, toy.Net.init, "model") for name in ("straight", "stopped")]
    for a, b in zip(*map(jax.tree.leaves, models), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_position_holds_for_any_number_of_processes(tmp_path):
    """Hosts read equal parts of the same batches; where they stand apart, another number cannot go on."""
    assert _position_of(tmp_path, ["7"]) == "7"
    assert _position_of(tmp_path, ["7", "7"]) == "7"
    with pytest.raises(UserError, match="trained by 2 processes, at different places"):
        _position_of(tmp_path, ["7", "8"])
