import json
import os
import re
import shutil
import signal
from dataclasses import replace
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import Layout, Module, UserError
from diorama.core.module import paths
from diorama.train import (
    Constant,
    Cosine,
    Loss,
    Muon,
    Stopped,
    Train,
    examples_done,
    load_model,
    read_log,
    reconstruct,
    train,
)
from diorama.train.checkpoint import Checkpoints
from diorama.train.log import TIMING
from tests.train.toy import OBJECTIVE, Net, data, example


class Line(Module):
    slope: jax.Array

    def __call__(self, x):
        return x @ self.slope


class Listed:
    """Given batches, one after the other."""

    def __init__(self, batches):
        self.batches, self.at = batches, 0

    def __next__(self):
        if self.at == len(self.batches):
            raise StopIteration
        self.at += 1
        return self.batches[self.at - 1]

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


def rows(numbers):
    return {k: np.stack([example(i)[k] for i in numbers]) for k in ("id", "x", "y")}


def same(a, b):
    assert paths(a).keys() == paths(b).keys()
    for path, x in paths(a).items():
        assert np.array_equal(x, paths(b)[path], equal_nan=True), path


def timeless(folder):
    return [{k: v for k, v in line.items() if k not in TIMING} for line in read_log(folder)]


def test_least_squares_reaches_the_exact_solution(tmp_path):
    batch = rows(range(64))

    def objective(model, batch, key):
        return Loss(jnp.square(model(batch["x"]) - batch["y"]).mean(), {})

    exact = np.linalg.lstsq(batch["x"], batch["y"], rcond=None)[0]
    config = Train(examples=64 * 1500, learning_rate=0.01, decay=Cosine(), checkpoint_every=0, log_every=6400)
    state = train(config, lambda key: Line(jnp.zeros((16, 8))), objective, Listed([batch] * 1500), tmp_path, seed=0)
    np.testing.assert_allclose(state.model.slope, exact, atol=2e-4)
    assert read_log(tmp_path)[-1]["loss"] == pytest.approx(np.square(batch["x"] @ exact - batch["y"]).mean(), rel=1e-4)


def test_going_on_equals_a_straight_run(tmp_path):
    """A run that lost its end goes on from a checkpoint between two log lines."""
    settings = {"log_every": 160, "checkpoint_every": 352, "ema_std": (0.05, 0.1)}
    straight = train(Train(2048, **settings), Net.init, OBJECTIVE, data(), tmp_path / "a", seed=3)
    train(Train(1008, **settings), Net.init, OBJECTIVE, data(), tmp_path / "b", seed=3)
    assert examples_done(tmp_path / "b") == timeless(tmp_path / "b")[-1]["examples"] == 1008
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "1008")
    assert examples_done(tmp_path / "b") == 704
    resumed = train(Train(2048, **settings), Net.init, OBJECTIVE, data(), tmp_path / "b", seed=3)
    same(straight, resumed)
    assert timeless(tmp_path / "a") == timeless(tmp_path / "b")
    again = train(Train(2048, **settings), Net.init, OBJECTIVE, Listed([]), tmp_path / "b", seed=3)  # finished
    same(straight, again)


def test_seed_changes_the_run(tmp_path):
    a, b = (train(Train(64), Net.init, OBJECTIVE, data(), tmp_path / str(s), seed=s) for s in (0, 1))
    assert not np.array_equal(a.model.inner, b.model.inner)


def test_batches_of_several_shapes(tmp_path):
    batches = Listed([rows(range(i, i + n)) for i, n in enumerate([8, 16, 8, 16, 8, 8])])
    state = train(Train(64, log_every=8), Net.init, OBJECTIVE, batches, tmp_path, seed=0)
    assert (int(state.examples), int(state.step)) == (64, 6)
    assert [line["examples"] for line in read_log(tmp_path)] == [8, 24, 32, 48, 56, 64]


def test_the_batch_that_reaches_the_end_is_whole_and_the_bar_is_full(tmp_path, capsys):
    def batches():
        return Listed([rows(range(i, i + n)) for i, n in enumerate([32, 8, 32, 32, 8, 32, 32])])

    ended = train(Train(80, log_every=8), Net.init, OBJECTIVE, batches(), tmp_path / "a", seed=0)
    assert int(ended.examples) == read_log(tmp_path / "a")[-1]["examples"] == 104
    assert "80/80" in (said := capsys.readouterr().err)
    assert "104/" not in said
    on = train(Train(160, log_every=8), Net.init, OBJECTIVE, batches(), tmp_path / "a", seed=0)
    same(on, train(Train(160, log_every=8), Net.init, OBJECTIVE, batches(), tmp_path / "b", seed=0))


def test_previews_are_called_with_the_average(tmp_path):
    calls = []

    def preview(model, examples, folder):
        assert folder == tmp_path / "previews"
        assert folder.is_dir()
        calls.append((examples, np.array(model.inner)))

    state = train(Train(96, preview_every=32), Net.init, OBJECTIVE, data(), tmp_path, seed=0, preview=preview)
    assert [c[0] for c in calls] == [32, 64, 96]
    assert np.array_equal(calls[-1][1], state.ema[0].inner)


@pytest.mark.parametrize("every", [16, 160])
def test_a_non_finite_gradient_stops_the_run_and_is_named(tmp_path, every):
    def objective(model, batch, key):
        loss = OBJECTIVE(model, batch, key)

        def finite():  # but its slope is not
            return jnp.sqrt(model.outer - model.outer).sum()

        return Loss(loss.value + jax.lax.cond((batch["id"] >= 999).any(), finite, lambda: 0.0), loss.metrics)

    batches = [rows(range(16)) for _ in range(40)]
    batches[9]["id"] = batches[9]["id"] + np.uint32(999)
    config = Train(640, log_every=every, checkpoint_every=32)
    with pytest.raises(UserError, match="codec: the gradient of outer is not finite at step 9"):
        train(config, Net.init, objective, Listed(batches), tmp_path, seed=0, name="codec")
    assert examples_done(tmp_path) == 9 * 16 // 32 * 32  # nothing from the bad step on
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(load_model(tmp_path, Net.init, "model")))
    assert all(line["examples"] <= 9 * 16 for line in read_log(tmp_path))


def test_a_non_finite_batch_is_named_before_what_it_spoils(tmp_path):
    batches = [rows(range(16)) for _ in range(4)]
    batches[2]["x"][3, 4] = np.nan
    with pytest.raises(UserError, match=r"train: the batch \(and 4 more\) is not finite at step 2"):
        train(Train(64), Net.init, OBJECTIVE, Listed(batches), tmp_path, seed=0)
    assert examples_done(tmp_path) == 0


@pytest.mark.parametrize(
    ("moment", "number"),
    [("preview", signal.SIGTERM), ("save", signal.SIGINT), ("wait", signal.SIGTERM), ("restore", signal.SIGINT)],
)
def test_a_signal_in_the_last_step_is_heeded(tmp_path, monkeypatch, moment, number):
    """A stage that is whole when the signal comes still must not let the next one begin."""
    config = Train(64, checkpoint_every=0, preview_every=64)

    def tell(*_):
        os.kill(os.getpid(), number)

    def run(preview=lambda *_: None):
        return train(config, Net.init, OBJECTIVE, data(), tmp_path, seed=0, preview=preview, name="codec")

    if moment == "restore":
        run()
    with monkeypatch.context() as patch:
        if moment != "preview":
            real = getattr(Checkpoints, moment)
            patch.setattr(Checkpoints, moment, lambda *given, **more: (real(*given, **more), tell())[0])
        with pytest.raises(Stopped) as stopped:
            run(tell if moment == "preview" else lambda *_: None)
    assert (stopped.value.code, stopped.value.name, stopped.value.examples) == (128 + number, "codec", 64)
    assert examples_done(tmp_path) == 64
    assert int(run().examples) == 64  # and all is saved


def test_nothing_crosses_between_host_and_device_unasked(tmp_path):
    class Forgetful(Layout):
        def put(self, batch):
            return batch  # left for the step to fetch from the host

    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        train(Train(64), Net.init, OBJECTIVE, data(), tmp_path / "forgetful", seed=0, layout=Forgetful())

    class Careless(Listed):
        def __next__(self):
            batch = super().__next__()
            return batch | {"x": jnp.asarray(batch["x"])}  # outside the guard: allowed

    train(Train(64), Net.init, OBJECTIVE, Careless([rows(range(16))] * 4), tmp_path / "careless", seed=0)


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"ran out after 32 examples: repeat"):
        train(Train(64), Net.init, OBJECTIVE, Listed([rows(range(16))] * 2), tmp_path / "a", seed=0)
    with pytest.raises(UserError, match=r"batch of 16 does not divide over 1 devices .* and 3 parts"):
        train(Train(64, accumulate=3), Net.init, OBJECTIVE, data(), tmp_path / "b", seed=0)


class TestCheckpoints:
    @pytest.fixture(scope="class")
    def run(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("run")
        config = Train(2048, checkpoint_every=256, keep=3, snapshot_every=256, ema_std=(0.05, 0.1), decay=Constant())
        return folder, config, train(config, Net.init, OBJECTIVE, data(), folder, seed=0)

    def test_the_last_few_are_kept(self, run):
        folder, _, _ = run
        assert sorted(int(p.name) for p in (folder / "checkpoints").iterdir()) == [1536, 1792, 2048]

    def test_models_are_loaded_by_name(self, run):
        folder, _, state = run
        same(load_model(folder, Net.init), state.ema[0])
        same(load_model(folder, Net.init, "ema1"), state.ema[1])
        same(load_model(folder, Net.init, "model"), state.model)
        with pytest.raises(UserError, match="no 'ema2': choose one of ema0, ema1, model"):
            load_model(folder, Net.init, "ema2")

    def test_another_model_is_refused(self, run):
        folder, config, _ = run

        def wide(key):
            return Line(jnp.zeros((3, 3)))

        for attempt in (
            lambda: load_model(folder, wide),
            lambda: train(config, wide, OBJECTIVE, data(), folder, seed=0),
        ):
            with pytest.raises(UserError, match=r"of another model: 'slope' is None there and \[3, 3\]"):
                attempt()
        with pytest.raises(UserError, match="holds no checkpoint"):
            load_model(folder / "nowhere", Net.init)

    def test_where_no_average_is_kept_the_model_is_loaded(self, tmp_path):
        state = train(Train(64, ema_std=()), Net.init, OBJECTIVE, data(), tmp_path, seed=0)
        same(load_model(tmp_path, Net.init), state.model)

    def test_another_optimizer_is_refused(self, run):
        folder, config, _ = run
        before = sorted(p.name for p in (folder / "checkpoints").iterdir())
        with pytest.raises(UserError, match=r"2048 is of another optimizer: '[\w.]+' is None there and \[\] in this"):
            train(replace(config, optimizer=Muon()), Net.init, OBJECTIVE, data(), folder, seed=0)
        assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == before

    def test_another_width_of_average_is_refused(self, run):
        folder, _, _ = run
        with pytest.raises(UserError, match=r"width \[0.05, 0.1\] and train.ema_std is \[0.05, 0.2\]"):
            train(Train(4096, ema_std=(0.05, 0.2)), Net.init, OBJECTIVE, data(), folder, seed=0)

    def test_a_width_that_was_not_kept_is_reconstructed(self, run, tmp_path):
        folder, _, state = run
        same_width = reconstruct(folder, Net.init, 0.1)
        np.testing.assert_allclose(same_width.inner, state.ema[1].inner, atol=1e-5)
        kept = train(Train(2048, ema_std=(0.15,)), Net.init, OBJECTIVE, data(), tmp_path, seed=0)
        other = reconstruct(folder, Net.init, 0.15)
        moved = np.abs(state.ema[1].inner - kept.ema[0].inner).max()
        assert np.abs(other.inner - kept.ema[0].inner).max() < 0.05 * moved
        assert np.array_equal(other.counts, state.model.counts)
        with pytest.raises(UserError, match="no snapshots"):
            reconstruct(tmp_path, Net.init, 0.1)

    @pytest.mark.parametrize("damage", ["empty", "half", "progress", "arrays", "missing"])
    def test_a_damaged_checkpoint_is_set_aside(self, tmp_path, damage, capsys):
        config = Train(1024, checkpoint_every=256, log_every=64)
        straight = train(config, Net.init, OBJECTIVE, data(), tmp_path, seed=0)
        before = timeless(tmp_path)
        newest = tmp_path / "checkpoints" / "1024"
        where = {"empty": "1024", "half": "model", "progress": "progress", "arrays": "ocdbt.process_0"}
        for path in sorted(newest.rglob("*")):
            if path.is_file() and where.get(damage) in path.parts:
                path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else path.stat().st_size // 2])
        if damage == "missing":
            shutil.rmtree(newest / "optimizer")
        again = train(config, Net.init, OBJECTIVE, data(), tmp_path, seed=0)
        assert re.search(r"diorama: checkpoint 1024 .* is damaged and set aside: \w", capsys.readouterr().err)
        same(straight, again)
        assert timeless(tmp_path) == before
        assert (tmp_path / "checkpoints" / "1024.damaged").is_dir()
        same(train(config, Net.init, OBJECTIVE, Listed([]), tmp_path, seed=0), straight)
        assert "damaged" not in capsys.readouterr().err

    def test_a_kill_amid_a_removal_leaves_none_that_looks_whole(self, tmp_path, monkeypatch):
        checkpoints = tmp_path / "checkpoints"
        with monkeypatch.context() as patched:
            patched.setattr("diorama.train.checkpoint.shutil.rmtree", Mock())  # as if killed before the first file went
            train(Train(768, checkpoint_every=256, keep=2), Net.init, OBJECTIVE, data(), tmp_path, seed=0)
        assert sorted(p.name for p in checkpoints.iterdir()) == ["512", "768", "removed"]
        train(Train(1024, checkpoint_every=256, keep=2), Net.init, OBJECTIVE, data(), tmp_path, seed=0)
        assert sorted(p.name for p in checkpoints.iterdir()) == ["1024", "768"]

    @pytest.mark.parametrize("refusal", [None, MemoryError(), PermissionError(13, "Permission denied")])
    def test_what_the_machine_refuses_is_no_damage(self, tmp_path, monkeypatch, refusal):
        config = Train(64)
        train(config, Net.init, OBJECTIVE, data(), tmp_path, seed=0)
        if refusal:
            monkeypatch.setattr("orbax.checkpoint.CheckpointManager.restore", Mock(side_effect=refusal))
        else:  # a link to itself is there and cannot be opened, not even by root
            for path in (tmp_path / "checkpoints" / "64").glob("*/ocdbt.process_0/d/*"):
                path.unlink()
                path.symlink_to(path)
        with pytest.raises(type(refusal) if refusal else Exception, match=None if refusal else "reading array"):
            train(config, Net.init, OBJECTIVE, data(), tmp_path, seed=0)
        assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["64"]


def test_it_notes_the_machine(tmp_path):
    train(Train(examples=8), Net.init, OBJECTIVE, data(), tmp_path, seed=0)
    noted = json.loads((tmp_path / "machine.json").read_text())
    assert noted["cores"] >= 1
    assert noted["cpu"]
    assert (noted["devices"], noted["processes"]) == ({}, 1)


def test_log_lines_are_json_with_scalars(tmp_path):
    train(Train(64, log_every=16), Net.init, OBJECTIVE, data(), tmp_path, seed=0)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    expected = {"examples", "step", "loss", "worst", "first", "gradient_norm", "learning_rate", *TIMING}
    assert all(line.keys() == expected for line in lines)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
