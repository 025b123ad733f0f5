"""The demo, killed at a random moment of each of its steps and run again, ends with the same numbers, bit for bit."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

TINY = (
    "codec.train.examples=480", "codec.train.checkpoint_every=160",
    "denoiser.train.examples=640", "denoiser.train.checkpoint_every=160",
    "evaluation.samples=16", "evaluation.classifier_steps=60", "sampling.steps=2",
)  # fmt: skip
# what shows that a step is under way: of a training, its first checkpoint
BEGUN = ("catalogue", "codec/checkpoints/160", "catalogue/latents", "denoiser/checkpoints/160", "evaluation")


def demo(out: Path) -> subprocess.Popen[bytes]:
    settings = [part for setting in TINY for part in ("--set", setting)]
    command = [sys.executable, "-m", "diorama", "demo", "--quick", "--out", str(out), *settings]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def results(out: Path) -> dict[str, object]:
    """Scores, parameters and drawn samples of a finished demo."""
    files = [*out.glob("*.safetensors"), *out.glob("catalogue/latents/*/*/*/latents.npy"), out / "tokenizer.json"]
    hashes = {str(f.relative_to(out)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    return {**hashes, "scores": json.loads((out / "evaluation" / "scores.json").read_text())}


def moments(process: subprocess.Popen[bytes], out: Path) -> list[float]:
    """When each step began and the last one ended, in seconds, of a demo that runs to its end."""
    moments: list[float] = []
    while process.poll() is None:
        if len(moments) < len(BEGUN) and (out / BEGUN[len(moments)]).exists():
            moments.append(time.monotonic())
        else:
            time.sleep(0.05)
    assert process.returncode == 0
    assert len(moments) == len(BEGUN)
    return [*moments, time.monotonic()]


@pytest.mark.slow
def test_killed_in_every_step_equals_straight(tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    began = moments(demo(straight), straight)
    draw = random.Random(0)
    for step, length in zip(BEGUN, np.diff(began), strict=True):
        process = demo(killed)
        while not (killed / step).exists():
            assert process.poll() is None, f"ended before {step}"
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 0.3) * length)  # what the first run compiled, this one finds: it is faster
        assert process.poll() is None, f"ended in {step}, before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert demo(killed).wait() == 0
    assert results(killed) == results(straight)
    assert (killed / "report.html").stat().st_size > 0
