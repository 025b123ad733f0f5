"""The denoising objective against exact truths."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diorama.core.errors import UserError
from diorama.core.module import Module, Policy, paths, static
from diorama.core.random import places
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.diffusion.uncertainty import Uncertainty, UncertaintyConfig
from diorama.net import Conditions
from diorama.process import EDM, LinearVP, Prediction, RectifiedFlow
from diorama.process.density import LogitNormal, LogNormal, Uniform
from diorama.process.weighting import EDM as EDMWeighting
from diorama.process.weighting import X0, Epsilon, MinSNR
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
    uncertainty: Any = None

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


def test_stratified_times_are_spread_over_the_batch():
    ids, process = jnp.arange(64, dtype=jnp.uint32) * 977, RectifiedFlow()
    objective = Denoising(Uniform(), stratified=True)
    tau = objective.times(process, KEY, ids, 3)
    np.testing.assert_array_equal(tau, tau[:, :1].repeat(3, 1))
    np.testing.assert_allclose(np.diff(np.sort(tau[:, 0])), 1 / 64, atol=1e-5)
    order = jax.random.permutation(KEY, 64)
    np.testing.assert_array_equal(objective.times(process, KEY, ids[order], 3), tau[order])  # the batch's, in any order
    place = places(KEY, ids)
    whole = objective.times(process, KEY, ids, 3, place)
    np.testing.assert_array_equal(objective.times(process, KEY, ids[8:24], 3, place[8:24]), whole[8:24])  # of a part


def test_strata_make_the_loss_vary_less():
    """A denoiser that is off by as much everywhere counts by its noise time: the mean stays, and the variance falls."""
    x0, ids = jnp.zeros((16, 1, 1, 1, 1)), jnp.arange(16, dtype=jnp.uint32)
    model = Knows(x0, 0.1, RectifiedFlow())

    def losses(objective):
        batch = {"media": x0, "id": ids}
        return jax.jit(jax.vmap(lambda key: objective(model, batch, key).value))(jax.random.split(KEY, 500))

    each, spread = (losses(Denoising(weighting=MinSNR(), stratified=s)) for s in (False, True))
    truth = float(each.mean()), float(each.std() / 500**0.5)
    assert float(spread.mean()) == pytest.approx(truth[0], abs=4 * truth[1])
    assert float(spread.var()) < 0.1 * float(each.var())


def test_an_uncertainty_of_no_terms_is_refused():
    with pytest.raises(UserError, match="terms=0"):
        UncertaintyConfig(terms=0)


def test_learned_uncertainty_is_the_expected_error():
    """Its optimum: e^u is the weighted error of each noise level; and until it has learned, the loss is the same."""
    x0, ids = jnp.zeros((256, 1, 1, 1, 1)), jnp.arange(256, dtype=jnp.uint32)
    process, objective = RectifiedFlow(), Denoising(LogitNormal(std=0.7), Epsilon())
    batch = {"media": x0, "id": ids}

    def loss(u, key):
        return objective(Knows(x0, 0.5, process, u), batch, key)

    new = UncertaintyConfig(terms=8).init()
    assert float(loss(new, KEY).value) == pytest.approx(float(loss(None, KEY).value), rel=1e-6)
    adam = optax.adam(optax.cosine_decay_schedule(0.1, 1000))

    def step(state, key):
        gradient = jax.grad(lambda u: loss(u, key).value)(state[0])
        updates, memory = adam.update(gradient, state[1])
        return (optax.apply_updates(state[0], updates), memory), None

    run = jax.jit(lambda u, keys: jax.lax.scan(step, (u, adam.init(u)), keys)[0][0])
    learned = run(new, jax.random.split(KEY, 1000))
    tau = jnp.linspace(0.2, 0.8, 13)  # where training looks
    truth = (0.5 * process.alpha(tau) / process.sigma(tau)) ** 2  # of epsilon, for a mistake of 0.5 in x0
    np.testing.assert_allclose(learned(process.logsnr(tau)), jnp.log(truth), atol=0.05)
    metrics = loss(learned, KEY).metrics
    assert float(metrics["uncertainty_tau0"]) > 0 > float(metrics["uncertainty_tau3"])
    assert float(metrics["loss_tau2"]) == pytest.approx(float(loss(None, KEY).metrics["loss_tau2"]), rel=1e-5)


def test_a_clean_frame_has_no_uncertainty():
    u = Uncertainty(jnp.asarray([0.7]))
    x0 = jnp.zeros((400, 2, 1, 1, 1))
    batch = {"media": x0, "id": jnp.arange(400, dtype=jnp.uint32)}
    objective = Denoising(independent=1.0)  # of half the clips, one frame of two is clean
    loss = objective(Knows(x0, 0.0, RectifiedFlow(), u), batch, KEY)
    assert float(loss.value) == pytest.approx(0.7 * 0.75, abs=0.03)


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
    model = type(model)(model.net, model.conditions, process, prediction, UncertaintyConfig().init())
    gradient = jax.jit(jax.grad(lambda m: objective(m, BATCH, KEY).value))(model)
    bad = [name for name, g in paths(gradient).items() if not np.isfinite(g).all() or not np.any(g)]
    assert bad == []


def test_the_objective_in_bfloat16_is_near(model, run):
    low = run(Policy("bfloat16").enter(model), BATCH)
    assert low.value.dtype == jnp.float32
    assert float(low.value) == pytest.approx(float(run(model, BATCH).value), rel=0.02)


def test_frames_of_a_block_share_their_noise_time():
    ids = jnp.arange(64, dtype=jnp.uint32)
    tau = np.asarray(Denoising(Uniform(), independent=1.0, block=2).times(RectifiedFlow(), KEY, ids, 5))
    np.testing.assert_array_equal(tau[:, 2], tau[:, 3])
    clean = tau[:, 0] == 0
    np.testing.assert_array_equal(tau[~clean, 0], tau[~clean, 1])
    assert 20 < clean.sum() < 44
    assert (tau[:, 1] != tau[:, 2]).all()
    assert (tau[:, 3] != tau[:, 4]).all()
    with pytest.raises(UserError, match="block"):
        Denoising(block=0)
