"""Stochastic rounding: unbiased, nothing small is lost, and a run in bfloat16 resumes bit for bit."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import Layout, Module, Policy
from diorama.core.module import paths
from diorama.net import TransformerConfig
from diorama.train import AdamW, Constant, Loss, Muon, Train, load_model, read_log, train
from diorama.train.rounding import SMALLEST, narrow, stochastic
from diorama.train.state import State, Tally, fault_names
from diorama.train.step import make_step, metric_names
from tests.train.toy import OUTPUTS, data

KEY = jax.random.key(0)
MANY = 1 << 16


def test_what_bfloat16_has_stays():
    x = jnp.array([0.0, -0.0, 1.0, -2.5, 2.0**-130, 3e38, jnp.inf, -jnp.inf], jnp.bfloat16).astype(jnp.float32)
    assert np.array_equal(stochastic(x, KEY).astype(jnp.float32), x)
    assert jnp.isnan(stochastic(jnp.array([jnp.nan, -jnp.nan]), KEY)).all()


@pytest.mark.parametrize("x", [1.0001, -1.003, 0.3, 255.9, -1e-20, 1.9999])
def test_the_mean_of_many_roundings_is_the_number(x):
    """Only its two neighbours come out, and their mean is within 4 standard errors of it."""
    found = np.asarray(stochastic(jnp.full(MANY, x, jnp.float32), KEY).astype(jnp.float32), np.float64)
    low, high = np.unique(found)
    assert low < np.float32(x) < high
    assert high - low <= abs(x) * 2**-7
    up = (np.float64(np.float32(x)) - low) / (high - low)
    error = (high - low) * np.sqrt(up * (1 - up) / MANY)
    assert abs(found.mean() - np.float32(x)) < 4 * error


class Heights(Module):
    """Numbers that the objective pulls up with a constant force."""

    x: jax.Array


def climb(keep, steps, step_size):
    """The mean height after so many steps of equal size from 1, whatever Adam makes of them."""
    config = Train(
        64 * steps, learning_rate=step_size, optimizer=AdamW((0.0, 0.0)), clip_norm=None, ema_std=(),
        decay=Constant(), policy=Policy(state=keep), log_every=0,
    )  # fmt: skip

    def objective(model, batch, key):
        return Loss(-model.x.mean() * model.x.size, {})

    state = jax.jit(lambda: State.init(Heights(jnp.ones(MANY)), config))()
    batch = {"id": np.arange(64, dtype=np.uint32)}
    tally = Tally.blank(metric_names(objective, state.model, batch), len(fault_names(state.model)))
    step = make_step(config, objective, Layout().shardings(state), 0, Layout())
    for _ in range(steps):
        state, tally = step(state, tally, batch)
    assert state.model.x.dtype == keep
    return np.asarray(state.model.x, np.float64)


def test_tiny_updates_are_not_lost():
    """Updates of 1e-4 of an ulp: the mean moves as it does in float32, within 4 standard errors; to nearest, never."""
    ulp, steps = 2.0**-7, 100
    update = 1e-4 * ulp
    heights = climb("bfloat16", steps, update)
    assert set((heights - 1) / ulp) <= {0, 1, 2}
    error = ulp * np.sqrt(steps * 1e-4 / MANY)
    assert abs(heights.mean() - 1 - steps * update) < 4 * error
    nearest = jnp.ones((), jnp.bfloat16)
    for _ in range(steps):
        nearest = (nearest.astype(jnp.float32) + update).astype(jnp.bfloat16)
    assert float(nearest) == 1.0


class Wide(Module):
    """A layer large enough to be narrowed, and a bias that is not."""

    inner: jax.Array
    outer: jax.Array
    bias: jax.Array

    @staticmethod
    def init(key):
        return Wide(
            jax.random.normal(key, (16, 128)) / 4, jax.random.normal(key, (128, OUTPUTS)) / 11, jnp.zeros(OUTPUTS)
        )

    def __call__(self, x):
        return jnp.tanh(x @ self.inner.astype(x.dtype)) @ self.outer.astype(x.dtype) + self.bias.astype(x.dtype)


def objective(model, batch, key):
    return Loss(jnp.square(model(batch["x"]) - batch["y"]).mean(), {})


CONFIG = Train(512, learning_rate=1e-2, policy=Policy(state="bfloat16"), log_every=64, checkpoint_every=128)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return folder, train(CONFIG, Wide.init, objective, data(), folder, seed=0)


def test_what_is_narrow_and_what_is_not(straight):
    _, state = straight
    for path, x in paths((state.model, state.optimizer)).items():
        if jnp.issubdtype(x.dtype, jnp.floating):
            assert x.dtype == ("bfloat16" if x.size >= SMALLEST else "float32"), path
    assert {x.dtype for x in jax.tree.leaves(state.ema)} == {np.dtype("float32")}


def test_a_stack_is_as_large_as_one_of_its_blocks():
    made = TransformerConfig(192, 6, 4, mixing=False).init
    state = jax.eval_shape(lambda: State.init(made(KEY, channels=8), CONFIG))
    for path, x in paths((state.model, state.optimizer)).items():
        if jnp.issubdtype(x.dtype, jnp.floating):
            vector = path.endswith(("bias", "gain", "null"))
            own = x.shape[-1:] if vector else x.shape[-2:]  # without the stack's
            assert x.dtype == ("bfloat16" if np.prod(own) >= SMALLEST else "float32"), path


def test_resumed_equals_straight_bit_for_bit(straight, tmp_path):
    before, state = straight
    train(replace(CONFIG, examples=256), Wide.init, objective, data(), tmp_path, seed=0)
    resumed = train(CONFIG, Wide.init, objective, data(), tmp_path, seed=0)
    for path, x in paths(state).items():
        assert np.array_equal(x, paths(resumed)[path]), path
    assert read_log(before)[-1]["loss"] == read_log(tmp_path)[-1]["loss"]
    assert load_model(tmp_path, Wide.init, "model").inner.dtype == "float32"


def test_it_learns_as_float32_does(straight, tmp_path):
    exact = replace(CONFIG, policy=Policy())
    train(exact, Wide.init, objective, data(), tmp_path, seed=0)
    losses = [read_log(folder)[-1]["loss"] for folder in (straight[0], tmp_path)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert losses[0] < 0.5 * read_log(tmp_path)[0]["loss"]


def test_muon_keeps_its_coefficients_exact():
    """Its state holds the coefficients of an iteration beside the momentum: they are no parameters."""
    state = State.init(Wide.init(KEY), replace(CONFIG, optimizer=Muon()))
    whole = Muon().transform().init(Wide.init(KEY))
    for path, x in paths(narrow(whole, "bfloat16")).items():
        assert x.dtype == paths(state.optimizer)[path].dtype
        assert x.size >= SMALLEST or np.array_equal(x, paths(whole)[path])
