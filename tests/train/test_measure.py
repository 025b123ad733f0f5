"""What is measured of a training: operations against hand counts, time that adds up, a profile that opens."""

import gzip
import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from diorama.core import Layout, Policy, UserError
from diorama.core.random import stream
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import TransformerConfig
from diorama.train import Loss, Train, read_log, train
from diorama.train.log import TIMING
from diorama.train.measure import WARM, Gauge, model_flops, peak_memory
from tests.train.toy import INPUTS, OBJECTIVE, OUTPUTS, WIDTH, Net, data

CONFIG = Train(16 * 12, log_every=64, checkpoint_every=64)
MODEL = jax.eval_shape(Net.init, stream(0, "init"))
BATCH = next(data())
STEP = 2 * 16 * (2 * INPUTS * WIDTH + 3 * WIDTH * OUTPUTS)


@pytest.mark.parametrize("config", [CONFIG, replace(CONFIG, accumulate=4), replace(CONFIG, policy=Policy("bfloat16"))])
def test_flops_of_a_step_by_hand(config):
    assert model_flops(config, OBJECTIVE, MODEL, BATCH) == STEP


class Late:
    """Changes on the way; its loss has a target that is not differentiated, and a metric that costs a network."""

    def __call__(self, model, batch, key):
        return self.after(0)(model, batch, key)

    def after(self, examples):
        def objective(model, batch, key):
            target = jax.lax.stop_gradient(model(2 * batch["x"]))
            value = jnp.square(model(batch["x"]) - target).mean() * examples
            return Loss(value, {"metric": model(3 * batch["x"]).mean()})

        return objective


def test_targets_cost_their_forward_pass_and_metrics_nothing():
    assert model_flops(CONFIG, Late(), MODEL, BATCH) == STEP + 2 * 16 * WIDTH * (INPUTS + OUTPUTS)


def test_remat_is_not_counted():
    """A transformer deep enough to be compiled as a loop."""
    found = {}
    for remat in ("none", "full"):
        net = TransformerConfig(depth=9, width=32, heads=2, remat=remat)
        model = jax.eval_shape(
            lambda key, net=net: DenoiserConfig(net=net, conditions={}).init(key, 4), stream(0, "init")
        )
        batch = {"media": jnp.zeros((2, 1, 8, 8, 4)), "id": jnp.arange(2, dtype=jnp.uint32)}
        found[remat] = model_flops(CONFIG, Denoising(), model, batch)
    assert found["none"] == found["full"] > 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(replace(CONFIG, trace=3), Net.init, OBJECTIVE, data(), folder, seed=0)
    return folder


def test_lines_say_what_was_done(run):
    lines = read_log(run)
    for line in lines:
        assert set(TIMING) <= line.keys()
        assert line["flops_per_second"] == pytest.approx(STEP / 16 * line["examples_per_second"], rel=1e-6)
        assert line["utilisation"] is None or 0 < line["utilisation"] <= 1
        assert line["cells_per_second"] is None
        assert 1e7 < line["memory_bytes"] <= peak_memory()
    spent = sum(line[f"{part}_seconds"] for line in lines for part in ("data", "dispatch", "device", "aside"))
    assert 0 < spent <= lines[-1]["seconds"] * 1.01


def test_a_profile_is_written_and_can_be_read(run):
    (path,) = (run / "trace").glob("plugins/profile/*/perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    steps = {event["args"]["step_num"] for event in events if event.get("name") == "train" and "args" in event}
    assert {str(WARM + i) for i in range(3)} <= {str(step) for step in steps}
    assert list(path.parent.glob("*.xplane.pb")), "what TensorBoard reads"


def test_it_is_said_where_a_profile_is(tmp_path, capfd):
    train(replace(CONFIG, trace=1), Net.init, OBJECTIVE, data(), tmp_path, seed=0)
    assert f"tensorboard --logdir {tmp_path / 'trace'}" in capfd.readouterr().err
    train(Train(16, trace=1), Net.init, OBJECTIVE, data(), tmp_path / "short", seed=0)
    assert "no trace was written" in capfd.readouterr().err
    with pytest.raises(UserError, match="trace"):
        Train(16, trace=-1)


def test_cells_are_those_of_latents(tmp_path):
    gauge = Gauge(CONFIG, lambda m, b, k: Loss(jnp.zeros(()), {}), MODEL, Layout(), tmp_path, "train")
    batch = {"media": jnp.zeros((2, 3, 4, 5, 7)), "id": jnp.arange(2)}
    with gauge.step(batch, 0):
        pass
    gauge.wait(jnp.zeros(()))
    line = gauge.read(2.0)
    assert line["cells_per_second"] == 2 * 3 * 4 * 5 / 2
    assert gauge.read(1.0)["cells_per_second"] is None


def test_utilisation_is_of_the_peak_and_unknown_above_it(monkeypatch, tmp_path):
    gauge, found = Gauge(CONFIG, OBJECTIVE, MODEL, Layout(), tmp_path, "train"), []
    for peak in (2.0, 0.5):
        monkeypatch.setattr(gauge, "_peak", peak)
        gauge._work = 3.0
        found.append(gauge.read(3.0)["utilisation"])
    assert found == [0.5, None]


def test_a_chip_that_is_not_known_has_no_utilisation(monkeypatch, tmp_path):
    monkeypatch.setattr("diorama.train.measure.of_device", lambda device: None)
    gauge = Gauge(CONFIG, OBJECTIVE, MODEL, Layout(), tmp_path, "train")
    assert gauge.read(1.0)["utilisation"] is None


def test_a_device_that_tells_its_memory_is_believed(monkeypatch):
    devices = [SimpleNamespace(memory_stats=lambda n=n: {"peak_bytes_in_use": n}) for n in (5, 9, 7)]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert peak_memory() == 9
