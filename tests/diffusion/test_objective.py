"""The denoising objective against exact truths."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.module import Module, Policy, paths, static
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import Conditions
from diorama.process import EDM, LinearVP, Prediction, RectifiedFlow
from diorama.process.density import LogNormal, Uniform
from diorama.process.weighting import EDM as EDMWeighting
from diorama.process.weighting import X0, Epsilon
from tests.net.tiny import CHANNELS, LABEL, TEXT, UNET, latents, made

IDS = jnp.array([3, 9, 2**32 - 1], jnp.uint32)
BATCH = {
    "media": latents(3),
    "id": IDS,
    "text": jnp.array([[5, 6, 0, 0, 0], [0] * 5, [7, 8, 9, 10, 11]]),
    "label": jnp.array([1, -1, 3]),
}
KEY = jax.random.key(5)


class Knows(Module):
    """A denoiser that knows the data: exact but for `off` on x0."""

    x0: Any
    off: Any
    process: Any = static()

    @property
    def conditions(self):
        return Conditions.init(jax.random.key(0), {}, 4)

    def __call__(self, x, tau, signals):
        at = self.process.at(tau, x.ndim)
        x0 = self.x0 + self.off
        return Prediction(x0, jnp.where(at.sigma > 0, (x - at.alpha * x0) / jnp.maximum(at.sigma, 1e-9), 0))


@pytest.mark.parametrize("process", [RectifiedFlow(), LinearVP(), EDM()])
def test_zero_for_whom_knows_the_data(process):
    objective = Denoising(density=Uniform(), weighting=X0(), independent=0.5)
    run = jax.jit(lambda off: objective(Knows(BATCH["media"], off, process), BATCH, KEY))
    assert float(run(0.0).value) == pytest.approx(0, abs=1e-8)


def test_the_weighting_makes_the_loss_the_error_it_is_named_after():
    process, off, x0 = RectifiedFlow(), 0.1, BATCH["media"]
    tau, epsilon = jnp.array([[0.25] * 3, [0.5] * 3, [0.0, 0.5, 0.5]]), jax.random.normal(KEY, x0.shape)
    model = Knows(x0, off, process)
    by_x0 = Denoising(weighting=X0()).at(model, x0, epsilon, tau, {})
    np.testing.assert_allclose(by_x0, [off**2, off**2, off**2 * 2 / 3], rtol=1e-4)  # a clean frame counts nothing
    by_epsilon = Denoising(weighting=Epsilon()).at(model, x0, epsilon, tau, {})
    np.testing.assert_allclose(by_epsilon, [9 * off**2, off**2, off**2 * 2 / 3], rtol=1e-4)  # alpha/sigma = 3, 1
    by_velocity = Denoising().at(model, x0, epsilon, tau, {})
    np.testing.assert_allclose(by_velocity, [16 * off**2, 4 * off**2, 4 * off**2 * 2 / 3], rtol=1e-4)


def test_noise_times():
    ids = jnp.arange(4000, dtype=jnp.uint32)
    process = RectifiedFlow()
    together = Denoising(Uniform()).times(process, KEY, ids, 3)
    assert together.shape == (4000, 3)
    np.testing.assert_array_equal(together, together[:, :1].repeat(3, 1))
    own = np.asarray(Denoising(Uniform(), independent=0.6).times(process, KEY, ids, 3))
    apart = own[:, 1] != own[:, 2]
    assert apart.mean() == pytest.approx(0.6, abs=0.03)
    clean = own[:, 0] == 0
    assert clean.mean() == pytest.approx(0.3, abs=0.03)
    assert apart[clean].all()
    assert (own[:, 1:] > 0).all()
    free = own[apart]
    assert abs(np.corrcoef(free[:, 1], free[:, 2])[0, 1]) < 0.08
    np.testing.assert_array_equal(own[~apart], together[~apart])  # the others are as they were
    assert free[:, 1].mean() == pytest.approx(0.5, abs=0.03)
    still = Denoising(Uniform(), independent=1.0).times(process, KEY, ids[:5], 1)
    assert (still > 0).all()  # an image is never given
    np.testing.assert_array_equal(
        Denoising(Uniform(), independent=0.6).times(process, KEY, ids[7:9], 3), own[7:9]
    )  # an id's times are its own


@pytest.fixture(scope="module")
def model():
    config = DenoiserConfig(UNET, {"text": TEXT, "label": LABEL})
    return made(lambda key: config.init(key, CHANNELS))


@pytest.fixture(scope="module")
def run():
    objective = Denoising(independent=0.5)
    return jax.jit(lambda model, batch: objective(model, batch, KEY))


def test_an_example_counts_the_same_in_any_company(model, run):
    loss = run(model, BATCH)
    order = jnp.array([2, 0, 1])
    again = run(model, {name: value[order] for name, value in BATCH.items()})
    assert float(again.value) == pytest.approx(float(loss.value), rel=1e-6)
    thrice = [float(run(model, {n: v[jnp.full(3, i)] for n, v in BATCH.items()}).value) for i in range(3)]
    assert np.mean(thrice) == pytest.approx(float(loss.value), rel=1e-5)
    assert len(set(thrice)) == 3


def test_metrics_say_the_loss_by_noise_level(model, run):
    loss = run(model, BATCH)
    tau = np.asarray(Denoising(independent=0.5).times(model.process, jax.random.split(KEY, 3)[0], IDS, 3)).mean(1)
    shares = np.array([(np.floor(tau * 4) == i).mean() for i in range(4)])
    bands = np.array([float(loss.metrics[f"loss_tau{i}"]) for i in range(4)])
    np.testing.assert_array_equal(np.isnan(bands), shares == 0)
    assert np.nansum(bands * shares) == pytest.approx(float(loss.value), rel=1e-5)


@pytest.mark.parametrize(
    ("process", "prediction", "objective"),
    [
        (RectifiedFlow(), "velocity", Denoising(independent=1.0)),
        (EDM(), "F", Denoising(LogNormal(), EDMWeighting())),
        (LinearVP(), "epsilon", Denoising(Uniform(), Epsilon())),
    ],
)
def test_gradients_are_finite_and_reach_every_parameter(model, process, prediction, objective):
    model = type(model)(model.net, model.conditions, process, prediction)
    gradient = jax.jit(jax.grad(lambda m: objective(m, BATCH, KEY).value))(model)
    bad = [name for name, g in paths(gradient).items() if not np.isfinite(g).all() or not np.any(g)]
    assert bad == []


def test_the_objective_in_bfloat16_is_near(model, run):
    low = run(Policy("bfloat16").enter(model), BATCH)
    assert low.value.dtype == jnp.float32
    assert float(low.value) == pytest.approx(float(run(model, BATCH).value), rel=0.02)
