"""The denoiser: one algebra for every process and prediction."""

import itertools
from dataclasses import replace
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.core.module import Module
from diorama.diffusion import Denoiser, DenoiserConfig
from diorama.net import Conditions, Output, null
from diorama.process import EDM, CosineVP, LinearVP, RectifiedFlow
from tests.net.tiny import CHANNELS, LABEL, TEXT, TRANSFORMER, UNET, latents, made

PROCESSES = (RectifiedFlow(), CosineVP(), LinearVP(), EDM())
KINDS = get_args(get_type_hints(DenoiserConfig)["prediction"])
B, T = 3, 3
TAU = jnp.array([[0.0] * T, [0.5] * T, [1.0] * T])
BATCH = {"text": jnp.array([[5, 6, 0, 0, 0]] * B), "label": jnp.array([1, 2, 3])}
X = latents(B)


@pytest.fixture(scope="module")
def model():
    config = DenoiserConfig(UNET, {"text": TEXT, "label": LABEL})
    return made(lambda key: config.init(key, CHANNELS))


@pytest.fixture(scope="module")
def signals(model):
    return model.conditions.signals(BATCH)


class Mirror(Module):
    """A network that shows what it is given."""

    weight: Array

    def __call__(self, x, level, context):
        return Output(self.weight * x, {"level": level})


def mirror(process, prediction, weight=1.0):
    return Denoiser(Mirror(jnp.float32(weight)), Conditions.init(jax.random.key(0), {}, 4), process, prediction)


def test_every_process_and_prediction_at_every_noise_time():
    """Finite, and a true pair: alpha x0 + sigma epsilon = x wherever both can be known."""
    pairs = list(itertools.product(PROCESSES, KINDS))

    run = jax.jit(lambda x, tau: [mirror(process, kind, 0.7)(x, tau, {}) for process, kind in pairs])
    for (process, kind), prediction in zip(pairs, run(X, TAU), strict=True):
        at = process.at(TAU, X.ndim)
        whole = at.alpha * prediction.x0 + at.sigma * prediction.epsilon
        for i, tau in enumerate((0.0, 0.5, 1.0)):
            name = f"{process} {kind} at {tau}"
            assert np.isfinite(prediction.x0[i]).all(), name
            assert np.isfinite(prediction.epsilon[i]).all(), name
            if (tau, kind) == (0.0, "x0") or (kind == "epsilon" and float(at.alpha[i].max()) == 0):
                continue  # the value says nothing about the other of the pair
            scale = float(jnp.abs(at.scale[i]).max())
            np.testing.assert_allclose(whole[i] / scale, X[i] / scale, atol=2e-3, err_msg=name)


def test_every_position_may_have_its_own_noise_time(model, signals):
    run = jax.jit(lambda m, x, tau: m(x, tau, signals))
    clip, frame = run(model, X, TAU[:, 0]), run(model, X, TAU)
    jax.tree.map(np.testing.assert_array_equal, clip, frame)


@pytest.mark.parametrize("process", PROCESSES)
def test_the_network_sees_unit_variance_and_the_noise_level(process):
    """At every process: x over its scale, and sigma / (alpha + sigma), which is tau for rectified flow."""
    model = mirror(process, "epsilon")
    tau = jnp.linspace(0, 1, 9)
    x0, epsilon = jax.random.normal(jax.random.key(0), (2, 9, 2, 16, 16, CHANNELS))
    x = process.add_noise(process.sigma_data * x0, epsilon, tau)
    output = jax.jit(lambda x: model.look(x, tau, {})[1])(x)
    np.testing.assert_allclose(np.asarray(output.value).std((1, 2, 3, 4)), 1, atol=0.1)
    alpha, sigma = process.alpha(tau), process.sigma(tau)
    want = sigma / (alpha + sigma)
    np.testing.assert_allclose(output.intermediates["level"], want[:, None].repeat(2, 1), atol=1e-5)
    if process == RectifiedFlow():
        np.testing.assert_allclose(want, tau, atol=1e-6)


def test_null_conditions_are_absent_ones(model, signals):
    run = jax.jit(lambda m, s: m(X, TAU, s))
    absent = model.conditions.signals({"text": 0 * BATCH["text"], "label": 0 * BATCH["label"] - 1})
    silent = run(model, null(signals))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), silent, run(model, absent))
    assert np.abs(run(model, signals).x0 - silent.x0)[1:].max() > 1e-4


def test_a_new_denoiser_predicts_the_mean():
    """Networks start at zero; with velocity and rectified flow, that is x0 = epsilon = x."""
    prediction = mirror(RectifiedFlow(), "velocity", weight=0.0)(X, TAU, {})
    np.testing.assert_allclose(prediction.x0, X, atol=1e-6)
    np.testing.assert_allclose(prediction.epsilon, X, atol=1e-6)


def test_features_come_with_the_prediction(model, signals):
    output = jax.eval_shape(lambda: model.look(X, TAU, signals)[1])
    assert output.value.shape == X.shape
    assert set(output.intermediates) == {"levels"}


def test_a_text_that_no_network_hears_is_refused():
    with pytest.raises(UserError, match=r"net\.text is none"):
        DenoiserConfig(replace(TRANSFORMER, text="none"), {"text": TEXT})
