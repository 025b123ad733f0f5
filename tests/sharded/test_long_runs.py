"""What long runs rest on, on eight simulated devices: validation, sums of arrays, and going back past a bad batch."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import Layout
from diorama.core.layout import AXES, over
from diorama.core.module import Policy
from diorama.train import Guard, Held, Loss, Train, Validate, train, verify
from diorama.train.validation import Validation
from tests.shared import simulated
from tests.train.test_loop import rows
from tests.train.toy import OBJECTIVE, Net, Spoiled, data

ROOT = Path(__file__).resolve().parents[2]
LAYOUTS = {"one": Layout(), "data": Layout(data=8), "fsdp": Layout(data=2, fsdp=4, smallest=64)}
HELD = Held(OBJECTIVE, [rows(range(1000, 1016))], [rows(range(16))])


def devices(*_: object) -> Loss:
    """Says how many devices an objective is compiled for."""
    return Loss(jnp.float32(over(AXES)), {})


def main(folder: Path) -> None:
    found = {}
    for name, layout in LAYOUTS.items():
        how = Train(256, log_every=64, checkpoint_every=64, guard=Guard(), validate=Validate(every=128))
        state = train(how, Net.init, OBJECTIVE, Spoiled(data(), [9]), folder / name, seed=0, layout=layout, held=HELD)
        born = Net.init(jax.random.key(0))
        model = jax.device_put(born, layout.shardings(born))
        values = Validation(Validate(), HELD, Policy(), 0, layout)(model)
        seen = Validation(Validate(), replace(HELD, objective=devices), Policy(), 0, layout)(model)["validation"]
        sums = verify.sums({"inner": model.inner, "outer": model.outer, "counts": model.counts})
        events = (folder / name / "events.jsonl").read_text()
        found[name] = {"values": values, "sums": sums, "events": events, "seen": seen}
        found[name]["end"] = np.asarray(state.model.inner).tolist()
    (folder / "found.json").write_text(json.dumps(found))


@pytest.mark.slow
def test_layouts_agree(tmp_path):
    command = [sys.executable, "-m", "tests.sharded.test_long_runs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=simulated(8), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    one = found["one"]
    for name, layout in LAYOUTS.items():
        assert found[name]["seen"] == layout.data * layout.fsdp
    for name in ("data", "fsdp"):
        assert found[name]["sums"] == one["sums"]
        assert found[name]["events"] == one["events"]
        for key, value in one["values"].items():
            assert found[name]["values"][key] == pytest.approx(value, rel=1e-5, abs=1e-6), (name, key)
        np.testing.assert_allclose(found[name]["end"], one["end"], rtol=1e-4, atol=1e-6)
    assert json.loads(one["events"])["skipped"] == 2


if __name__ == "__main__":
    main(Path(sys.argv[1]))
