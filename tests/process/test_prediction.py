import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, CosineVP, Prediction, RectifiedFlow
from diorama.process.prediction import PAIR, VALUE
from tests.process.test_gaussian import PROCESSES

PROCESS = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
X0, EPSILON = np.random.default_rng(0).normal(size=(2, 5, 1, 4, 4, 2))


def noised(process, taus=(0.05, 0.3, 0.5, 0.8, 0.97)):
    level = process.at(jnp.asarray(taus), 5)
    pair = Prediction(jnp.asarray(X0), jnp.asarray(EPSILON))
    return pair, level.alpha * X0 + level.sigma * EPSILON, level


@PROCESS
@pytest.mark.parametrize("source", list(PAIR))
def test_every_prediction_to_every_other_and_back(process, source, x64):
    pair, x, level = noised(process)
    found = Prediction.of(source, pair.to(source, level), x, level)
    for target in VALUE:
        there = found.to(target, level)
        back = Prediction.of(target, there, x, level)
        np.testing.assert_allclose(there, pair.to(target, level), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(back.x0, X0, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(back.epsilon, EPSILON, rtol=1e-6, atol=1e-6)


@PROCESS
def test_velocity_is_the_derivative_of_the_path(process, x64):
    pair, _, level = noised(process)
    taus = jnp.asarray([0.05, 0.3, 0.5, 0.8, 0.97])
    _, slope = jax.jvp(lambda t: process.add_noise(pair.x0, pair.epsilon, t), (taus,), (jnp.ones_like(taus),))
    np.testing.assert_allclose(pair.to("velocity", level), slope, rtol=1e-9)


@PROCESS
def test_score_is_the_gradient_of_the_log_density(process, x64):
    """x0 is a point, so log p(x_tau) = -|x - alpha x0|^2 / 2 sigma^2."""
    pair, x, level = noised(process)
    log_density = lambda x: -(((x - level.alpha * X0) / level.sigma) ** 2).sum() / 2  # noqa: E731
    np.testing.assert_allclose(pair.to("score", level), jax.grad(log_density)(x), rtol=1e-7, atol=1e-9)


@PROCESS
@pytest.mark.parametrize("kind", list(PAIR))
def test_no_level_breaks_a_conversion(process, kind):
    """At both ends, and in the gradient that training takes: finite."""
    level = process.at(jnp.asarray([0.0, 1e-6, 0.5, 1 - 1e-6, 1.0]), 5)
    x = level.alpha * X0 + level.sigma * EPSILON
    value = Prediction(jnp.asarray(X0), jnp.asarray(EPSILON)).to(kind, level)
    loss = lambda value: sum(jnp.sum(p) for p in jax.tree.leaves(Prediction.of(kind, value, x, level)))  # noqa: E731
    assert np.isfinite(value).all()
    assert np.isfinite(jax.grad(loss)(value)).all()
    assert all(np.isfinite(p).all() for p in jax.tree.leaves(Prediction.of(kind, value, x, level)))


@pytest.mark.parametrize("process", [RectifiedFlow(), CosineVP()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("kind", ["x0", "velocity", "v", "F"])
def test_data_are_known_even_from_pure_noise(process, kind):
    """alpha = 0: what the network says of the data is all there is, and it is kept."""
    level = process.at(jnp.ones(5), 5)
    pair = Prediction.of(
        kind, Prediction(jnp.asarray(X0), jnp.asarray(EPSILON)).to(kind, level), level.sigma * EPSILON, level
    )
    np.testing.assert_allclose(pair.x0, X0, atol=1e-5)
    np.testing.assert_allclose(pair.epsilon, EPSILON, atol=1e-5)


@PROCESS
@pytest.mark.parametrize("kind", list(PAIR))
def test_at_data_the_data_are_x(process, kind):
    level = process.at(jnp.zeros(5), 5)
    value = jnp.asarray(X0) if kind == "x0" else jnp.ones((5, 1, 4, 4, 2))
    np.testing.assert_allclose(Prediction.of(kind, value, jnp.asarray(X0), level).x0, X0, rtol=1e-6)


def test_rectified_flow_by_hand(x64):
    pair, x, level = noised(RectifiedFlow(), (0.25,) * 5)
    velocity = EPSILON - X0
    np.testing.assert_allclose(pair.to("velocity", level), velocity)
    found = Prediction.of("velocity", velocity, x, level)
    np.testing.assert_allclose(found.x0, x - 0.25 * velocity, rtol=1e-9)
    np.testing.assert_allclose(found.epsilon, x + 0.75 * velocity, rtol=1e-9)
    np.testing.assert_allclose(found.to("score", level), -(x + 0.75 * velocity) / 0.25, rtol=1e-9)


def test_f_is_edm_preconditioning(x64):
    """D = c_skip x + c_out F, with the coefficients of arXiv 2206.00364, table 1."""
    process, d = EDM(), 0.5
    _, x, level = noised(process)
    f, s = EPSILON, np.asarray(level.sigma)
    by_hand = d**2 / (s**2 + d**2) * x + s * d / np.sqrt(s**2 + d**2) * f
    np.testing.assert_allclose(Prediction.of("F", f, x, level).x0, by_hand, rtol=1e-9)


def test_v_of_a_variance_preserving_process_is_its_own_rotation(x64):
    pair, _, level = noised(CosineVP())
    np.testing.assert_allclose(pair.to("velocity", level), np.pi / 2 * pair.to("v", level), rtol=1e-9)
    np.testing.assert_allclose(pair.to("F", level), -pair.to("v", level), rtol=1e-9)


def test_an_unknown_kind_names_the_known():
    with pytest.raises(UserError, match="'noise' is no prediction; choose one of x0, epsilon, velocity"):
        Prediction.of("noise", jnp.zeros(()), jnp.zeros(()), RectifiedFlow().at(0.5, 0))
