"""The real denoiser, text and all, on eight simulated devices; run as a program, it trains in three layouts."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import grain
import numpy as np
import pytest

from diorama.core import Layout
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.diffusion.uncertainty import UncertaintyConfig
from diorama.train import Train, read_log, train
from tests.net.tiny import CHANNELS, LABEL, TEXT, UNET
from tests.shared import simulated

ROOT = Path(__file__).resolve().parents[2]
BATCH, STEPS = 16, 4
LAYOUTS = {"one": Layout(), "data": Layout(data=8), "fsdp": Layout(fsdp=8, smallest=64)}


def example(i: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(i)
    label = rng.integers(4)
    media = np.float32(label - 1.5) + rng.normal(size=(3, 4, 4, CHANNELS)).astype(np.float32)
    text = np.array([label + 5, 6, 0, 0, 0]) if i % 5 else np.zeros(5)
    return {"media": media, "id": np.uint32(i), "label": np.int32(label), "text": text.astype(np.int32)}


def main(folder: Path) -> None:
    net = replace(UNET, widths=(16,))  # one level: less to compile
    config = DenoiserConfig(net, {"text": TEXT, "label": LABEL}, uncertainty=UncertaintyConfig())
    objective = Denoising(independent=0.5, stratified=True)
    how = Train(examples=BATCH * STEPS, learning_rate=1e-3, log_every=BATCH)
    for name, layout in LAYOUTS.items():
        batches = iter(grain.MapDataset.range(256).map(example).to_iter_dataset().batch(BATCH))
        train(how, partial(config.init, channels=CHANNELS), objective, batches, folder / name,
              seed=0, layout=layout)  # fmt: skip


@pytest.mark.slow
def test_sharded_denoising_equals_single(tmp_path):
    command = [sys.executable, "-m", "tests.sharded.test_denoiser", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=simulated(8), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    losses = {name: np.array([line["loss"] for line in read_log(tmp_path / name)]) for name in LAYOUTS}
    assert losses["one"].shape == (STEPS,)
    for name in ("data", "fsdp"):
        np.testing.assert_allclose(losses[name], losses["one"], rtol=1e-5, err_msg=name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
