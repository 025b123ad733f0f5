"""Validation is a function of the model, the clips and the seed; training does not feel it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import Layout, UserError
from diorama.core.module import Policy
from diorama.core.random import stream, uniform
from diorama.train import Held, Loss, Train, Validate, read_log, train
from diorama.train.validation import Validation
from tests.train.test_loop import rows, same, timeless
from tests.train.toy import OBJECTIVE, Net, data

HOW = Validate(every=160, clips=32, strata=4)
PLAIN = Train(320, log_every=64, checkpoint_every=96)
CONFIG = replace(PLAIN, validate=HOW)


def objective(model, batch, key):
    """A noise time by place, and what of the loss falls into its halves; absent from training, as of `Objective`."""
    loss = OBJECTIVE(model, batch, key)
    late = batch["place"] >= 0.5
    error = jnp.square(model(batch["x"]) - batch["y"]).mean(-1) * batch["place"]
    return Loss(error.mean(), {"loss_tau1": jnp.where(late.any(), (error * late).sum() / late.sum(), jnp.nan),
                               "worst": loss.metrics["worst"]})  # fmt: skip


HELD = Held(objective, [rows(range(1000, 1016)), rows(range(1016, 1024))], [rows(range(16))])


@pytest.fixture(scope="module")
def model():
    return Net.init(jax.random.key(5))


def test_it_is_what_a_direct_computation_gives(model):
    found = Validation(HOW, HELD, Policy(), 3, Layout())(model)
    ids = np.arange(1000, 1024, dtype=np.uint32)
    batch = rows(ids)
    error = np.square(model(batch["x"]) - batch["y"]).mean(-1)
    place = (np.arange(4)[:, None] + np.asarray(uniform(stream(3, "validation place"), ids))) / 4
    assert found["validation"] == pytest.approx((error * place).mean(), rel=1e-5)
    assert found["validation_tau1"] == pytest.approx((error * place)[2:].mean(), rel=1e-5)
    assert found["validation_gap"] == found["validation"] - found["validation_train"]
    assert found.keys() == {
        "validation", "validation_tau1", "validation_worst",
        "validation_train", "validation_train_tau1", "validation_train_worst", "validation_gap",
    }  # fmt: skip


def test_neither_batches_nor_order_matter_to_means_over_all_examples(model):
    """And to the half of the noise times that every batch holds all of."""
    again = Held(objective, [rows(range(i + 7, i - 1, -1)) for i in (1008, 1016, 1000)], HELD.train)
    a, b = (Validation(HOW, held, Policy(), 3, Layout())(model) for held in (HELD, again))
    for name in ("validation", "validation_tau1", "validation_train"):
        assert a[name] == pytest.approx(b[name], rel=1e-6)


def test_training_does_not_feel_it_and_a_resumed_run_says_the_same(tmp_path):
    plain = train(PLAIN, Net.init, OBJECTIVE, data(), tmp_path / "plain", seed=0)
    state = train(CONFIG, Net.init, OBJECTIVE, data(), tmp_path / "a", seed=0, held=HELD)
    same(plain, state)
    lines = read_log(tmp_path / "a")
    assert [line["examples"] for line in lines if "validation" in line] == [160, 320]
    assert lines[-1]["validation_train"] == pytest.approx(
        Validation(HOW, HELD, Policy(), 0, Layout())(state.ema[0])["validation_train"]
    )
    train(replace(CONFIG, examples=240, validate=None), Net.init, OBJECTIVE, data(), tmp_path / "b", seed=0)
    train(CONFIG, Net.init, OBJECTIVE, data(), tmp_path / "b", seed=0, held=HELD)
    assert timeless(tmp_path / "b")[-1] == timeless(tmp_path / "a")[-1]


def test_what_holds_nothing_back_is_said(tmp_path):
    with pytest.raises(UserError, match=r"codec: nothing is held back from it to validate on"):
        train(CONFIG, Net.init, OBJECTIVE, data(), tmp_path, seed=0, name="codec")
    with pytest.raises(UserError, match="at least 1"):
        Validate(strata=0)
