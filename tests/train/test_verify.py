"""Sums tell what changed on the way to the disk, and a checkpoint that did is set aside."""

import errno
import json
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.train import Train, examples_done, train, verify
from diorama.train.checkpoint import Checkpoints
from tests.train.test_loop import same
from tests.train.toy import OBJECTIVE, Net, data

CONFIG = Train(512, checkpoint_every=128, log_every=64)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.uint8, bool])
def test_device_and_host_agree_and_every_change_is_seen(dtype):
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(5, 3, 7)) * 50, 0).astype(dtype)
    [total] = verify.sums({"x": jnp.asarray(x)}).values()
    assert total == verify.sum_of(x)
    flat = x.reshape(-1)
    changed = flat.copy().view(np.uint8)
    changed[-1] ^= 1
    assert verify.sum_of(changed.view(x.dtype)) != total
    where = int(np.flatnonzero(flat != flat[0])[0])
    swapped = flat.copy()
    swapped[[0, where]] = swapped[[where, 0]]
    assert verify.sum_of(swapped) != total
    assert verify.sum_of(np.asarray(3, dtype)) == verify.sums({"x": jnp.asarray(3, dtype)})["x"]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_rows_of_round_numbers_that_changed_places_are_seen(dtype):
    """Their bits differ by a multiple of 2^23, and their places by a multiple of 256."""
    x = np.zeros((4, 256), dtype)
    x[1] = 1
    assert len({verify.sum_of(np.roll(x, i, axis=0)) for i in range(4)}) == 4


def test_it_names_what_differs():
    assert verify.differing({"a": 1}, {"a": 1, "b": 2}) is None
    assert verify.differing({"a": 1, "b": 3, "c": 0}, {"a": 2, "b": 2}) == "'a' is not what was saved (and 1 more)"


def lost(monkeypatch, *steps):
    """Let the disk lose what was written at these examples: bytes in the middle of the largest files change."""
    real = verify.read_back

    def spoil(checkpoint, wanted):
        if int(checkpoint.name) in steps:
            files = [p for p in (checkpoint / "model").rglob("*") if p.is_file() and "d" in p.parent.name]
            path = max(files, key=lambda p: p.stat().st_size)
            raw = bytearray(path.read_bytes())
            raw[len(raw) // 2] ^= 255
            path.write_bytes(bytes(raw))
        return real(checkpoint, wanted)

    monkeypatch.setattr(verify, "read_back", spoil)


def test_a_checkpoint_that_the_disk_lost_is_set_aside_at_once(tmp_path, monkeypatch, capsys):
    straight = train(CONFIG, Net.init, OBJECTIVE, data(), tmp_path / "a", seed=0)
    lost(monkeypatch, 256)
    state = train(replace(CONFIG, examples=384), Net.init, OBJECTIVE, data(), tmp_path / "b", seed=0)
    assert re.search(r"diorama: checkpoint 256 of .* is damaged and set aside: \w", capsys.readouterr().err)
    names = sorted(p.name for p in (tmp_path / "b" / "checkpoints").iterdir())
    assert names == ["128", "256.damaged", "384"]  # two good ones, though one is bad
    lost(monkeypatch, 512)
    with pytest.raises(UserError, match=r"the last checkpoint of .* is not what was saved: .* from 384 examples"):
        train(CONFIG, Net.init, OBJECTIVE, data(), tmp_path / "b", seed=0)
    monkeypatch.undo()
    assert int(state.examples) == examples_done(tmp_path / "b") == 384
    same(train(CONFIG, Net.init, OBJECTIVE, data(), tmp_path / "b", seed=0), straight)


@pytest.mark.parametrize("times", [1, 9], ids=["once", "always"])
def test_a_good_checkpoint_that_the_machine_cannot_read_back_is_kept(tmp_path, monkeypatch, capsys, times):
    real, left = verify.read_back, [times]

    def refused(checkpoint, wanted):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(checkpoint, wanted)

    monkeypatch.setattr(verify, "read_back", refused)
    train(replace(CONFIG, examples=128), Net.init, OBJECTIVE, data(), tmp_path, seed=0)
    assert examples_done(tmp_path) == 128
    assert ("checkpoint 128 of" in capsys.readouterr().err) == (times > 1)


def test_what_the_disk_loses_later_is_found_when_it_is_restored(tmp_path, monkeypatch, capsys):
    straight = train(CONFIG, Net.init, OBJECTIVE, data(), tmp_path, seed=0)
    real = verify.sums

    def other(arrays):  # as if a bit were another one, where no format's own checksum sees it
        found = real(arrays)
        return found | {"inner": found["inner"] + 1} if "inner" in found else found

    calls = iter([other])
    monkeypatch.setattr(verify, "sums", lambda arrays: next(calls, real)(arrays))
    same(train(CONFIG, Net.init, OBJECTIVE, data(), tmp_path, seed=0), straight)
    assert "checkpoint 512 of" in (said := capsys.readouterr().err)
    assert "model: 'inner' is not what was saved" in said


def test_some_are_kept_for_good(tmp_path):
    config = replace(CONFIG, checkpoint_every=64, keep=2, keep_every=150)
    train(config, Net.init, OBJECTIVE, data(), tmp_path, seed=0)
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [192, 320, 448, 512]
    train(replace(config, examples=520), Net.init, OBJECTIVE, data(), tmp_path, seed=0)  # 528: not at its time
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == [192, 320, 448, 512, 528]


def test_an_earlier_versions_checkpoints_are_read(tmp_path):
    """They have neither sums nor the time that they were saved at."""
    state = train(CONFIG, Net.init, OBJECTIVE, data(), tmp_path, seed=0)
    checkpoints = Checkpoints(tmp_path, CONFIG)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    path = tmp_path / "checkpoints" / "512" / "progress" / "metadata"
    noted = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in noted.items() if k not in ("sums", "due", "step", "events")}))
    same(checkpoints.restore(like).state, state)
    checkpoints.close()
