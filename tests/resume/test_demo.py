"""The demo, killed at random moments and run again, ends with the same numbers, bit for bit."""

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TINY = (
    "codec.train.examples=480", "codec.train.checkpoint_every=160",
    "denoiser.train.examples=640", "denoiser.train.checkpoint_every=160",
    "evaluation.samples=16", "evaluation.classifier_steps=60", "sampling.steps=2",
)  # fmt: skip
KILLS = 5


def demo(out: Path) -> subprocess.Popen[bytes]:
    settings = [part for setting in TINY for part in ("--set", setting)]
    command = [sys.executable, "-m", "diorama", "demo", "--quick", "--out", str(out), *settings]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def results(out: Path) -> dict[str, object]:
    """Scores, parameters and drawn samples of a finished demo."""
    files = [*out.glob("*.safetensors"), *out.glob("catalogue/latents/*/*/*/latents.npy"), out / "tokenizer.json"]
    hashes = {str(f.relative_to(out)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    return {**hashes, "scores": json.loads((out / "evaluation" / "scores.json").read_text())}


@pytest.mark.slow
def test_killed_five_times_equals_straight(tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    began = time.monotonic()
    assert demo(straight).wait() == 0
    whole = time.monotonic() - began
    draw = random.Random(0)
    deaths = 0
    while True:
        process = demo(killed)
        try:
            code = process.wait(timeout=whole * draw.uniform(0.1, 0.35) if deaths < KILLS else None)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            deaths += 1
            continue
        assert code == 0
        assert results(killed) == results(straight)
        assert (killed / "report.html").stat().st_size > 0
        if deaths == KILLS:
            break
        shutil.rmtree(killed)  # done before the fifth kill: another run for those that are left
