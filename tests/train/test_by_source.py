"""The loss by source of data is that of its examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.train import Loss, Train, read_log, train
from diorama.train.by_source import BySource
from tests.train.test_loop import Listed, rows, same
from tests.train.toy import Net


def objective(model, batch, key):
    assert "source" not in batch
    each = jnp.square(model(batch["x"]) - batch["y"]).mean(-1)
    return Loss(each.mean(), {"loss_tau0": each[0]}, each)


def told(sources):
    return rows(range(8)) | {"source": np.array(sources, np.int32)}


def test_each_source_has_the_mean_of_its_examples():
    model, batch = Net.init(jax.random.key(0)), told([0, 0, 2, 0, 2, 2, 2, 2])
    plain = objective(model, rows(range(8)), None)
    out = BySource(objective, ("a", "b", "c"))(model, batch, None)
    assert out.value == plain.value
    assert float(out.metrics["loss_a"]) == pytest.approx(float(plain.each[np.array([0, 1, 3])].mean()), rel=1e-6)
    assert float(out.metrics["loss_c"]) == pytest.approx(float(plain.each[np.array([2, 4, 5, 6, 7])].mean()), rel=1e-6)
    assert np.isnan(out.metrics["loss_b"])
    with pytest.raises(UserError, match="cannot be called 'tau0'"):
        BySource(objective, ("tau0", "b"))(model, batch, None)


def test_rows_of_clips_are_told_apart_clip_by_clip():
    def rowed(model, batch, key):
        return Loss(jnp.float32(0), {}, jnp.array([[1.0, 3.0, jnp.nan], [5.0, jnp.nan, jnp.nan]]))

    batch = {"source": np.array([[0, 1, -1], [1, -1, -1]])}
    out = BySource(rowed, ("a", "b", "c"))(None, batch, None).metrics
    assert (float(out["loss_a"]), float(out["loss_b"])) == (1, 4)
    assert np.isnan(out["loss_c"])


def test_the_log_has_them_and_training_does_not_feel_it(tmp_path):
    config = Train(32, log_every=8)
    plain = train(config, Net.init, objective, Listed([rows(range(8))] * 4), tmp_path / "a", seed=0)
    batches = Listed([told([0] * 8), told([1] * 8), told([0, 1] * 4), told([0] * 8)])
    state = train(config, Net.init, BySource(objective, ("still", "video")), batches, tmp_path / "b", seed=0)
    same(plain, state)
    lines = read_log(tmp_path / "b")
    assert [line["loss_still"] is None for line in lines] == [False, True, False, False]
    assert [line["loss_video"] is None for line in lines] == [True, False, False, True]
    assert lines[0]["loss_still"] == pytest.approx(lines[0]["loss"], rel=1e-6)
    assert (lines[2]["loss_still"] + lines[2]["loss_video"]) / 2 == pytest.approx(lines[2]["loss"], rel=1e-6)
