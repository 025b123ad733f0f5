import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diorama.core import Layout, Policy, UserError
from diorama.core.random import places, stream
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.train import AdamW, Constant, Cosine, InverseSquareRoot, Loss, Train
from diorama.train.state import State, Tally, fault_names, join, split
from diorama.train.step import _gradient, make_step, metric_names
from tests.net.tiny import NETS, stirred
from tests.train.toy import OBJECTIVE, Net, data, example


def run(config, batches, objective=OBJECTIVE, seed=0):
    layout = Layout()
    state = jax.jit(lambda: State.init(Net.init(stream(seed, "init")), config))()
    tally = Tally.blank(metric_names(objective, state.model, batches[0]), len(fault_names(state.model)))
    step = make_step(config, objective, layout.shardings(state), seed, layout)
    for batch in batches:
        state, tally = step(state, tally, layout.put(batch))
    return state, tally


def several(count, **kwargs):
    source = data(**kwargs)
    return [next(source) for _ in range(count)]


def test_step_is_adamw_of_the_clipped_gradient():
    config = Train(examples=1000, learning_rate=0.01, optimizer=AdamW(weight_decay=0.1), clip_norm=0.05, ema_std=())
    batches = several(5)
    state, _ = run(config, batches)

    optimizer = optax.chain(optax.clip_by_global_norm(0.05), optax.adamw(0.01, *AdamW().betas, weight_decay=0.1))
    model = Net.init(stream(0, "init"))
    trained, rest = split(model)
    memory = optimizer.init(trained)
    for i, batch in enumerate(batches):
        key = stream(0, "objective", i)
        gradient = jax.grad(lambda p, b=batch, k=key: OBJECTIVE(join(p, rest), b, k).value)(trained)
        updates, memory = optimizer.update(gradient, memory, trained)
        trained = optax.apply_updates(trained, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), split(state.model)[0], trained)
    assert np.array_equal(state.model.counts, model.counts)
    assert (int(state.step), int(state.examples)) == (5, 80)


@pytest.mark.parametrize("parts", [2, 4, 16])
def test_accumulation_equals_the_full_batch(parts):
    config = Train(examples=1000, learning_rate=1e-3, ema_std=(0.1,))
    batches = several(4)
    whole, tally = run(config, batches)
    apart, tally_apart = run(dataclasses.replace(config, accumulate=parts), batches)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole.model, apart.model)
    np.testing.assert_allclose(tally.sums["loss"], tally_apart.sums["loss"], rtol=1e-6)
    np.testing.assert_allclose(tally.sums["gradient_norm"], tally_apart.sums["gradient_norm"], rtol=1e-5)


@pytest.mark.parametrize("net", ["unet", "transformer"])
def test_the_gradient_of_denoisers_does_not_depend_on_how_a_batch_is_cut(net):
    """In four parts as in one: within 1e-6 of the largest entry, with noise times that are spread over the batch."""
    model = stirred(jax.eval_shape(lambda key: DenoiserConfig(NETS[net], {}).init(key, 4), stream(0, "init")))
    objective, (trained, rest) = Denoising(independent=0.5, stratified=True), split(model)
    ids, key = np.arange(8, dtype=np.uint32), stream(0, "objective")
    media = np.random.default_rng(0).normal(size=(8, 2, 4, 4, 4)).astype(np.float32)
    batch = {"media": media, "id": ids, "place": places(stream(0, "place"), ids)}

    def loss(trained, part):
        out = objective(join(trained, rest), part, key)
        return out.value, {}

    value, _, gradient = jax.jit(lambda batch: _gradient(loss, trained, batch, 1))(batch)
    values, _, apart = jax.jit(lambda batch: _gradient(loss, trained, batch, 4))(batch)
    assert float(values.mean()) == pytest.approx(float(value[0]), rel=1e-6)
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * largest), gradient, apart)


@pytest.mark.parametrize("parts", [1, 4])
def test_parts_know_their_place_in_the_whole_batch(parts):
    def objective(model, batch, key):
        place = batch.get("place", jnp.zeros(len(batch["id"])))
        return Loss(jnp.square(model(batch["x"])).mean(), {"place": place.mean(), "square": (place**2).mean()})

    _, tally = run(Train(examples=100, accumulate=parts), several(1), objective)
    places = np.arange(16) / 16
    assert float(tally.sums["place"] / tally.weights["place"]) == pytest.approx(places.mean(), rel=1e-6)
    assert float(tally.sums["square"] / tally.weights["square"]) == pytest.approx((places**2).mean(), rel=1e-6)


def test_no_condition_takes_the_name_of_the_place():
    with pytest.raises(UserError, match="by another name"):
        run(Train(examples=100), [batch | {"place": batch["x"]} for batch in several(1)])


def test_metrics_that_are_nan_are_left_out_of_the_mean():
    batch = {k: np.stack([example(i)[k] for i in (0, 1)]) for k in ("id", "x", "y")}

    def objective(model, batch, key):
        error = jnp.square(model(batch["x"]) - batch["y"]).mean(-1)
        zeros = batch["id"] == 0
        return Loss(error.mean(), {"zero": jnp.where(zeros, error, 0).sum() / zeros.sum()})

    without = batch | {"id": np.array([2, 3], np.uint32)}
    frozen = Train(examples=100, learning_rate=0.0, accumulate=2)
    _, tally = run(frozen, [batch, without], objective)
    zero = float(tally.sums["zero"] / tally.weights["zero"])
    model = Net.init(stream(0, "init"))
    assert zero == pytest.approx(float(jnp.square(model(batch["x"][:1]) - batch["y"][:1]).mean()), rel=1e-5)
    assert int(tally.fault_step) == -1


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
    seen = []

    def objective(model, batch, key):
        seen.append(model.inner.dtype)
        return OBJECTIVE(model, batch, key)

    state, _ = run(Train(examples=100, policy=Policy("bfloat16")), several(1), objective)
    assert jnp.bfloat16 in seen
    floats = split((state.model, state.optimizer, state.ema))[0]
    assert {x.dtype for x in jax.tree.leaves(floats)} == {np.dtype("float32")}


def test_learning_rate_is_a_function_of_examples():
    config = Train(examples=1000, learning_rate=2.0, warmup=100, decay=Cosine(floor=0.1))
    for examples, factor in ((0, 0), (50, 0.5), (100, 1), (500, 1), (1000, 1)):
        expected = 2 * factor * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * examples / 1000)))
        assert float(config.rate(jnp.float32(examples))) == pytest.approx(expected, abs=1e-6)
    assert float(InverseSquareRoot(100)(jnp.float32(400), 0)) == pytest.approx(0.5)
    assert float(Constant()(jnp.float32(400), 0)) == 1


def test_configuration_is_checked():
    with pytest.raises(UserError, match="ema_std"):
        Train(examples=1, ema_std=(0.3,))
    with pytest.raises(UserError, match="examples"):
        Train(examples=0)
