"""Roles: parts of a model that learn at a pace of their own, in the one gradient pass of the one trainer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import Layout, UserError
from diorama.core.config import override, parse, to_text
from diorama.core.module import Module, paths
from diorama.core.random import stream
from diorama.train import AdamW, Cosine, Loss, Muon, Role, Train, load_model, read_log, train
from diorama.train.state import State, Tally, by_role, fault_names, join, split
from diorama.train.step import make_step, metric_names
from tests.train.toy import OBJECTIVE, Net, Regression, data


class Pair(Module):
    """Two of the toy's models, each with a loss of its own."""

    pupil: Net
    critic: Net

    @staticmethod
    def init(key):
        return Pair(Net.init(key), Net.init(jax.random.fold_in(key, 1)))


class Both(Module):
    """The sum of two losses: the pupil's, and the critic's, which is about the pupil's output."""

    first: Regression

    def __call__(self, model, batch, key):
        mine = self.first(model.pupil, batch, key)
        seen = jax.lax.stop_gradient(model.pupil(batch["x"]))
        other = jnp.square(model.critic(batch["x"]) - seen).mean()
        return Loss(mine.value + other, {**mine.metrics, "critic": other})


class Late(Both):
    """As `Both`, the critic's loss counting from 48 examples on."""

    examples: jax.Array | int = 0

    def after(self, examples):
        return dataclasses.replace(self, examples=examples)

    def __call__(self, model, batch, key):
        both = super().__call__(model, batch, key)
        critic = both.metrics["critic"]
        return Loss(both.value - jnp.where(jnp.asarray(self.examples) < 48, critic, 0), both.metrics)


BOTH = Both(OBJECTIVE)
CONFIG = Train(examples=1000, learning_rate=1e-3, clip_norm=0.05, ema_std=(0.1,))
CRITIC = Role("critic", learning_rate=3e-3, warmup=64, optimizer=AdamW((0.5, 0.9)), clip_norm=0.5)
WITH = dataclasses.replace(CONFIG, roles=(CRITIC,))


def run(config, batches, objective=BOTH, init=Pair.init, seen=None):
    """The state and the tally after these batches; the model after each step is added to `seen`."""
    layout = Layout()
    state = jax.jit(lambda: State.init(init(stream(0, "init")), config))()
    names = metric_names(objective, state.model, batches[0], config.roles)
    tally = Tally.blank(names, len(fault_names(state.model)))
    step = make_step(config, objective, layout.shardings(state), 0, layout)
    for batch in batches:
        state, tally = step(state, tally, layout.put(batch))
        if seen is not None:
            seen.append(jax.device_get(state.model))
    return state, tally


@pytest.fixture(scope="module")
def batches():
    source = data()
    return [next(source) for _ in range(6)]


@pytest.fixture(scope="module")
def steps():
    """The models after each step of `together`."""
    return []


@pytest.fixture(scope="module")
def together(batches, steps):
    return run(WITH, batches, seen=steps)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_what_has_no_role_learns_as_it_does_alone(together, batches):
    state, tally = together
    alone, tally_alone = run(CONFIG, batches, OBJECTIVE, Net.init)
    same(state.model.pupil, alone.model)
    same(state.ema[0].pupil, alone.ema[0])
    same(tally.sums["gradient_norm"], tally_alone.sums["gradient_norm"])


def test_a_role_learns_as_it_does_alone(together, steps, batches):
    """The critic alone, by its own settings, beside a pupil that is put where it was at every step."""
    own = {f.name: getattr(CRITIC, f.name) for f in dataclasses.fields(Role) if f.name != "path"}
    config = dataclasses.replace(CONFIG, **own)
    model = Pair.init(stream(0, "init"))
    pupils = [model.pupil, *(after.pupil for after in steps[:-1])]
    trained, rest = split(model.critic)
    memory = config.optimizer.transform().init(trained)

    def loss(p, x, pupil):
        return jnp.square(join(p, rest)(x) - pupil(x)).mean()

    for i, (batch, pupil) in enumerate(zip(batches, pupils, strict=True)):
        gradient = jax.grad(loss)(trained, batch["x"], pupil)
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(gradient)))
        gradient = jax.tree.map(lambda g, n=norm: g * jnp.minimum(1, 0.5 / n), gradient)
        updates, memory = config.optimizer.transform().update(gradient, memory, trained)
        rate = config.rate(jnp.float32(16 * i + 8))
        trained = jax.tree.map(lambda p, u, r=rate: p - r * u, trained, updates)
    learned = split(together[0].model.critic)[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), learned, trained)
    assert float(jnp.abs(learned.inner - model.critic.inner).max()) > 1e-3


def test_norms_and_rates_are_logged_by_role(together):
    _, tally = together
    assert {"gradient_norm", "learning_rate", "critic.gradient_norm", "critic.learning_rate"} <= set(tally.sums)
    rate = float(tally.sums["critic.learning_rate"] / tally.weights["critic.learning_rate"])
    assert rate == pytest.approx(3e-3 * np.mean([min(1, (16 * i + 8) / 64) for i in range(6)]), rel=1e-5)


def test_a_role_with_the_settings_of_the_rest_changes_nothing_but_the_norm(batches):
    config = dataclasses.replace(CONFIG, clip_norm=None, optimizer=AdamW(weight_decay=0.1))
    role = Role("critic", config.learning_rate, optimizer=config.optimizer, clip_norm=None)
    same(run(config, batches)[0].model, run(dataclasses.replace(config, roles=(role,)), batches)[0].model)


def test_accumulation_equals_the_full_batch(together, batches):
    apart, _ = run(dataclasses.replace(WITH, accumulate=4), batches)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-6), apart.model, together[0].model)


def test_an_objective_is_told_how_far_training_is(together, steps, batches):
    init, late = Pair.init(stream(0, "init")), []
    run(WITH, batches, Late(OBJECTIVE), seen=late)
    same(late[2].critic, init.critic)  # after steps at 0, 16 and 32 examples
    assert float(jnp.abs(late[3].critic.inner - init.critic.inner).max()) > 1e-4
    same(late[-1].pupil, steps[-1].pupil)


def test_a_value_that_is_not_finite_is_named_in_its_role(batches):
    class Broken(Both):
        def __call__(self, model, batch, key):
            both = super().__call__(model, batch, key)
            return Loss(both.value + jnp.sqrt(jnp.sum(model.critic.bias)) * 0, both.metrics)  # 0 * infinity

    state, tally = run(WITH, batches[:1], Broken(OBJECTIVE))
    names = fault_names(state.model)
    assert [names[i] for i in np.flatnonzero(tally.fault)] == ["the gradient of critic.bias"]


def trained(folder, examples, objective=BOTH):
    how = dataclasses.replace(WITH, examples=examples, log_every=32, checkpoint_every=48)
    return train(how, Pair.init, objective, data(), folder, seed=0)


def test_resumed_equals_straight(tmp_path):
    straight = trained(tmp_path / "straight", 160, Late(OBJECTIVE))
    trained(tmp_path / "resumed", 80, Late(OBJECTIVE))
    resumed = trained(tmp_path / "resumed", 160, Late(OBJECTIVE))
    same(straight, resumed)
    logs = [read_log(tmp_path / name) for name in ("straight", "resumed")]
    last = [log[-1]["critic.gradient_norm"] for log in logs]
    assert last[0] == last[1]
    same(load_model(tmp_path / "resumed", Pair.init), straight.ema[0])


def test_another_role_does_not_go_on_with_a_checkpoint(tmp_path):
    trained(tmp_path, 16)
    how = dataclasses.replace(WITH, examples=32, roles=(dataclasses.replace(CRITIC, optimizer=Muon()),))
    with pytest.raises(UserError, match="another optimizer"):
        train(how, Pair.init, BOTH, data(), tmp_path, seed=0)


def test_parameters_fall_to_their_roles():
    model = split(Pair.init(jax.random.key(0)))[0]
    none, pupil, bias = by_role(model, (Role("pupil"), Role("critic.bias")))
    assert list(paths(none)) == ["critic.inner", "critic.outer"]
    assert list(paths(pupil)) == ["pupil.inner", "pupil.outer", "pupil.bias"]
    assert list(paths(bias)) == ["critic.bias"]
    with pytest.raises(UserError, match="has no 'crit': its parts are critic, pupil"):
        by_role(model, (Role("crit"),))
    with pytest.raises(UserError, match=r"'critic\.bias' is of several roles"):
        by_role(model, (Role("critic"), Role("critic.bias")))


def test_roles_survive_as_text():
    config = dataclasses.replace(WITH, roles=(CRITIC, Role("other", decay=Cosine(), clip_norm=None)))
    assert parse(to_text(config), Train) == config
    assert parse(to_text(CONFIG), Train) == CONFIG
    assert override(config, ["roles.0.learning_rate=0.5"]).roles[0].learning_rate == 0.5
