"""Magnitudes are kept: by every operation in closed form, by every layer, and by weights through steps of training."""

from dataclasses import replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import Layout
from diorama.core.module import Module, paths
from diorama.net import MagnitudeUNetConfig
from diorama.net.condition import Context
from diorama.net.magnitude import Attention, Conv, Linear, TemporalConv, Unit, mp_cat, mp_fourier, mp_silu, mp_sum
from diorama.train import AdamW, Loss, Muon, Train
from diorama.train.constrained import projected
from diorama.train.state import State, Tally, fault_names
from diorama.train.step import make_step

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def rms(x):
    return float(np.sqrt(np.mean(np.square(np.asarray(x, np.float64)))))


def test_silu_of_a_normal_variable_has_unit_mean_square():
    x, weight = np.polynomial.hermite_e.hermegauss(64)
    square = (weight * np.asarray(mp_silu(x)) ** 2).sum() / weight.sum()
    assert square == pytest.approx(1, abs=2e-3)  # 0.596 has three digits


def test_sums_and_parts_keep_the_variance():
    """From the coefficients alone: of orthogonal inputs, and so of independent ones in expectation."""
    a, b = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    for t in (0.3, 0.5):
        assert np.square(mp_sum(a, b, t)).sum() == pytest.approx(1, abs=1e-6)
    assert mp_sum(a, b)[1] / mp_sum(a, b)[0] == pytest.approx(0.3 / 0.7)
    joined = mp_cat(jnp.ones(3), jnp.ones(12))
    assert np.square(joined).mean() == pytest.approx(1, abs=1e-6)
    assert np.square(joined[:3]).sum() == pytest.approx(np.square(joined[3:]).sum(), rel=1e-6)


def test_features_of_the_noise_level_have_unit_mean_square_and_are_finite_at_its_ends():
    features = np.asarray(mp_fourier(jnp.linspace(0, 1, 101)[None]))
    assert np.isfinite(features).all()
    np.testing.assert_allclose(np.square(features).mean(-1), 1, rtol=1e-5)
    distance = np.linalg.norm(features[0][:, None] - features[0][None], axis=-1) + 10 * np.eye(101)
    assert distance.min() > 0.1


LAYERS = {
    "linear": (Linear.init(KEY, 48, 32), normal(2, 3, 8, 8, 48)),
    "convolution": (Conv.init(KEY, 16, 32), normal(2, 3, 8, 8, 16)),
    "time": (TemporalConv.init(KEY, 32, False), normal(2, 3, 8, 8, 32)),
    "causal": (TemporalConv.init(KEY, 32, True), normal(2, 3, 8, 8, 32)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_gives_unit_variance_and_sees_no_norm_of_its_weights(kind):
    layer, x = LAYERS[kind]
    y = np.asarray(layer(x))
    inner = y[:, :, 1:-1, 1:-1]  # zero padding takes from what lies at the edge
    for frame in range(3):
        assert rms(inner[:, frame]) == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(replace(layer, weight=10 * layer.weight)(x), y, atol=2e-5)
    if kind in ("time", "causal"):
        assert rms(layer(x[:, :1])) == pytest.approx(1, abs=0.05)  # a still
    if kind == "causal":
        np.testing.assert_allclose(layer(x[:, :1]), y[:, :1], atol=1e-5)
        np.testing.assert_array_equal(layer(x.at[:, 2].add(1))[:, :2], y[:, :2])


@pytest.mark.parametrize("kind", LAYERS)
def test_the_gradient_is_orthogonal_to_each_outputs_weights(kind):
    layer, x = LAYERS[kind]
    target = normal(*layer(x).shape)
    slope = jax.grad(lambda m: jnp.mean((m(x) - target) ** 2))(layer).weight
    axes = (1,) if layer.weight.ndim == 3 else tuple(range(layer.weight.ndim - 1))
    along = np.sum(slope * layer.weight, axes)
    size = np.linalg.norm(np.asarray(slope).ravel()) * np.linalg.norm(np.asarray(layer.weight).ravel())
    assert np.abs(along).max() < 1e-5 * size


def test_projected_weights_have_unit_mean_square_for_each_output_and_mean_the_same():
    for layer, x in LAYERS.values():
        wild = replace(layer, weight=layer.weight * jnp.geomspace(0.1, 10, layer.weight.shape[-1]))
        there = projected({"a": wild, "b": jnp.ones(3)})
        axes = (1,) if wild.weight.ndim == 3 else tuple(range(wild.weight.ndim - 1))
        np.testing.assert_allclose(np.square(there["a"].weight).mean(axes), 1, rtol=1e-5)
        np.testing.assert_allclose(there["a"](x), wild(x), atol=2e-5)
        np.testing.assert_array_equal(there["b"], jnp.ones(3))
        np.testing.assert_allclose(projected(there)["a"].weight, there["a"].weight, rtol=1e-6)


def test_attention_to_oneself_keeps_the_magnitude():
    attention, x = Attention.init(KEY, 32, 32, 2), normal(4, 16, 32)
    y = attention(x, x, None, jnp.eye(16, dtype=bool)[None])
    assert rms(y) == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(attention(x, x, None, None, jnp.ones(4, bool)), y, atol=1e-5)
    np.testing.assert_allclose(attention(10 * x, 10 * x, None, None), attention(x, x, None, None), atol=1e-4)


CONFIG = MagnitudeUNetConfig(widths=(32, 32), heads=2, width=32)


def test_every_level_has_unit_variance_whatever_the_norm_of_the_weights():
    net = CONFIG.init(KEY, 4)
    net = replace(net, gain=jnp.ones(()))
    x, level = normal(4, 2, 16, 16, 4), jnp.full((4, 2), 0.5)
    run = jax.jit(lambda net: net(x, level, Context()))
    out = run(net)
    for features in out.intermediates["levels"]:
        assert rms(features) == pytest.approx(1, abs=0.1)
    assert rms(out.value) == pytest.approx(1, abs=0.35)  # on the way up sums are of what is not independent

    def larger(part):
        return replace(part, weight=10 * part.weight) if isinstance(part, Unit) else part

    scaled = jax.tree.map(larger, net, is_leaf=lambda part: isinstance(part, Unit))
    np.testing.assert_allclose(run(scaled).value, out.value, atol=2e-4)
    assert {name for name in paths(net) if name.endswith("bias")} == set()


class Free(Module):
    """A layer's weights without the surface that they lie on."""

    weight: jax.Array

    def __call__(self, x):
        return Linear(self.weight)(x)


def trained(layer, optimizer, steps=120):
    """The weights before and after each step towards targets that are noise, by the trainer's own step."""

    def objective(model, batch, key):
        return Loss(jnp.mean((model(batch["x"]) - batch["y"]) ** 2), {})

    config = Train(10**6, learning_rate=0.2, optimizer=optimizer, clip_norm=None, ema_std=())
    state, layout = jax.jit(lambda: State.init(layer, config))(), Layout()
    tally = Tally.blank(["loss", "gradient_norm", "learning_rate"], len(fault_names(layer)))
    step = make_step(config, objective, layout.shardings(jax.eval_shape(lambda: state)), 0, layout)
    weights = [np.asarray(layer.weight)]
    for _ in range(steps):
        batch = {"id": np.arange(8, dtype=np.uint32), "x": normal(8, 16), "y": normal(8, 32)}
        state, tally = step(state, tally, jax.device_put(batch))
        weights.append(np.array(state.model.weight))
    return weights


def angle(a, b):
    a, b = (x / np.linalg.norm(x, axis=0) for x in (a, b))
    return float(np.arccos(np.clip((a * b).sum(0), -1, 1)).mean())


@pytest.mark.parametrize("optimizer", [AdamW(), Muon()], ids=["AdamW", "Muon"])
def test_training_keeps_the_norm_so_that_steps_turn_weights_as_far_as_ever(optimizer):
    start = Linear.init(KEY, 16, 32)
    held = trained(Linear(10 * start.weight), optimizer)  # the first step brings them back
    free = trained(Free(start.weight), optimizer)
    for weights in held[1:]:
        np.testing.assert_allclose(np.square(weights).mean(0), 1, rtol=1e-5)
    growth = np.square(free[-1]).mean() / np.square(free[0]).mean()
    assert growth > 1.5
    early, late = slice(40, 60), slice(-20, None)  # Adam's first steps are longer: its mean is of few gradients

    def slowing(weights):
        turned = [angle(a, b) for a, b in pairwise(weights)]
        return np.mean(turned[late]) / np.mean(turned[early])

    assert slowing(held) > 0.9
    assert slowing(free) < 0.85
