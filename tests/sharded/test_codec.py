"""A codec and its critic on two simulated devices; run as a program, it trains in four layouts."""

import subprocess
import sys
from pathlib import Path

import grain
import numpy as np
import pytest

from diorama.codec import ConvCodecConfig, Patch, Reconstruction
from diorama.codec.loss import Adversary, CriticConfig
from diorama.core import Layout
from diorama.train import Role, Train, read_log, train
from tests.shared import simulated

ROOT = Path(__file__).resolve().parents[2]
BATCH, STEPS = 8, 4
LAYOUTS = {"one": Layout(), "data": Layout(data=2), "fsdp": Layout(fsdp=2, smallest=64), "rows": Layout(sequence=2)}


def example(i: int) -> dict[str, np.ndarray]:
    media = np.random.default_rng(i).uniform(-1, 1, (3, 8, 8, 3)).astype(np.float32)
    return {"media": media, "id": np.uint32(i)}


def main(folder: Path) -> None:
    config = ConvCodecConfig(spatial=4, temporal=2, channels=3, front=Patch(4), widths=(8,))
    objective = Reconstruction(config, adversary=Adversary(CriticConfig((8,)), start=BATCH))
    how = Train(examples=BATCH * STEPS, learning_rate=1e-3, log_every=BATCH, roles=(Role("critic"),))
    for name, layout in LAYOUTS.items():
        batches = iter(grain.MapDataset.range(256).map(example).to_iter_dataset().batch(BATCH))
        train(how, objective.init, objective, batches, folder / name, seed=0, layout=layout)


@pytest.mark.slow
def test_sharded_codec_training_equals_single(tmp_path):
    command = [sys.executable, "-m", "tests.sharded.test_codec", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=simulated(2), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    for metric in ("loss", "mse", "critic.gradient_norm"):
        values = {name: np.array([line[metric] for line in read_log(tmp_path / name)]) for name in LAYOUTS}
        assert values["one"].shape == (STEPS,)
        for name in ("data", "fsdp", "rows"):
            np.testing.assert_allclose(values[name], values["one"], rtol=1e-4, atol=1e-6, err_msg=f"{metric}, {name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
