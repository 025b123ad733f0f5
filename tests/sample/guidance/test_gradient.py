"""Guidance by gradients, and inpainting, where the guided law is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.process import EDM, Coloured, CosineVP, Prediction, RectifiedFlow
from diorama.sample import DDIM, Heun, grid
from diorama.sample.guidance import Interval, Rescaled, by_classifier, by_loss, inpainted
from tests.sample.guidance.laws import ONES, TAU, TWO, X, same, tilting
from tests.sample.truths import field, gaussian, march, mixture

MEANS, STD = np.asarray([[1.0, -0.5], [-1.0, 0.5]]), 0.6
processes = pytest.mark.parametrize("process", [RectifiedFlow(), CosineVP(), EDM()], ids=lambda p: type(p).__name__)


def first(process):
    """The exact classifier of noisy values: log p(all are of the first Gaussian of `mixture` | x_tau)."""

    def log_likelihood(x, tau):
        at = process.at(tau, x.ndim)
        apart = x[..., None, :] - at.alpha[..., None] * MEANS
        logits = -0.5 * (apart**2).sum(-1) / (at.alpha**2 * STD**2 + at.sigma**2)
        return jax.nn.log_softmax(logits)[..., 0].sum((1, 2, 3))

    return log_likelihood


@processes
def test_an_exact_classifier_makes_the_exact_conditional(process, x64):
    x, tau = X.astype(float), jnp.asarray([[0.1, 0.6, 1.0]] * 4)
    guided = by_classifier(mixture(process, MEANS, STD), process, first(process))
    found, expected = guided(x, tau, None), mixture(process, MEANS[:1], STD)(x, tau)
    for frames, tolerance in ((slice(2), 1e-9), (slice(2, 3), 3e-3)):  # at alpha = 0 the gradient is taken beside it
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a[:, frames], b[:, frames], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("noise", [Coloured(1.5), Coloured(1.0, time=1.0)], ids=str)
def test_coloured_noise_is_led_by_its_covariance(noise, x64):
    """x0 ~ N(0, 1) and y ~ N(x0, r), every frame at a noise time of its own: by dense matrices, exactly."""
    process, y, r, shape = RectifiedFlow(noise=noise), 0.8, 0.5, (2, 2, 3, 1)
    tau, n = jnp.asarray([[0.2, 0.7]]), 12
    x = jax.random.normal(jax.random.key(3), (1, *shape), float)
    at = process.at(tau, 5)
    alpha, sigma = (jnp.broadcast_to(each, x.shape).ravel() for each in (at.alpha, at.sigma))
    basis = jnp.eye(n).reshape(n, *shape)
    spread = jnp.outer(sigma, sigma) * noise.covariance(basis).reshape(n, n) + jnp.diag(alpha**2)  # of x
    gain = jnp.diag(alpha) @ jnp.linalg.inv(spread)
    left = jnp.eye(n) - gain @ jnp.diag(alpha)  # of x0 once x is known

    def denoiser(x, tau, conditions):
        return Prediction.of("x0", (gain @ x.ravel()).reshape(x.shape), x, at)

    def reading(x, tau):
        apart = y - gain @ x.ravel()
        return -0.5 * (apart @ jnp.linalg.solve(left + r * jnp.eye(n), apart))[None]

    found, mean = by_classifier(denoiser, process, reading)(x, tau, None), gain @ x.ravel()
    expected = mean + left @ jnp.linalg.solve(left + r * jnp.eye(n), y - mean)
    np.testing.assert_allclose(found.x0.ravel(), expected, rtol=1e-9)
    np.testing.assert_allclose(at.alpha * found.x0 + at.sigma * found.epsilon, x, atol=1e-12)


@processes
def test_a_quadratic_loss_pulls_by_the_posterior_covariance(process, x64):
    """x0 ~ N(0, v): d E[x0 | x] / dx sigma^2 / alpha is the covariance v sigma^2 / (alpha^2 v + sigma^2)."""
    v, goal, x, tau = 1.7, 0.8, X.astype(float), jnp.asarray([[0.1, 0.6, 1.0]] * 4)
    denoiser, at = gaussian(process, variance=v), process.at(tau, 5)
    guided = by_loss(denoiser, process, lambda x0: jnp.square(x0 - goal).sum((1, 2, 3, 4)) / 2, 0.7)
    found, bare = guided(x, tau, None), denoiser(x, tau)
    covariance = v * at.sigma**2 / (at.alpha**2 * v + at.sigma**2)
    expected = bare.x0 - 0.7 * covariance * (bare.x0 - goal)
    np.testing.assert_allclose(found.x0[:, :2], expected[:, :2], rtol=1e-9)
    np.testing.assert_allclose(found.x0, expected, atol=5e-3)
    np.testing.assert_allclose(at.alpha * found.x0 + at.sigma * found.epsilon, x, atol=1e-9)


def test_none_of_it_is_the_denoiser():
    denoiser = tilting()
    bare = denoiser(X, TAU, ONES)
    for guided in (
        by_loss(denoiser, RectifiedFlow(), lambda x0: (x0**2).sum((1, 2, 3, 4)), 0.0),
        by_loss(denoiser, RectifiedFlow(), lambda x0: (x0**2).sum((1, 2, 3, 4)), 9.0, Interval(0.95, 1.0)),
        by_classifier(denoiser, RectifiedFlow(), lambda x, tau: x.sum((1, 2, 3, 4)), 0.0),
        inpainted(denoiser, RectifiedFlow(), X, jnp.zeros((4, 3, 4, 4, 1), bool)),
    ):
        same(guided(X, TAU, ONES), bare, rtol=1e-6, atol=1e-6)


def test_they_compose():
    """A rescaled guidance within an interval, a loss, a known part: still a pair, and what is known is kept."""
    process, where = RectifiedFlow(), jnp.zeros((4, 3, 4, 4, 1), bool).at[:, :, :2].set(True)
    guided = Rescaled(4.0, Interval(0.3, 1.0))(tilting(), process, TWO)
    guided = inpainted(by_loss(guided, process, lambda x0: (x0**2).sum((1, 2, 3, 4)), 0.1), process, X, where)
    found, at = jax.jit(guided)(X, TAU, ONES), process.at(TAU, 5)
    np.testing.assert_allclose(at.alpha * found.x0 + at.sigma * found.epsilon, X, atol=1e-4)
    np.testing.assert_array_equal(found.x0[:, :, :2], X[:, :, :2])


N, B = 8, 16


def response(solver, process):
    """What is made of a smooth Gaussian field whose left half is known: of a draw, and of zeros with the same noise.

    Returns both (b, cells), the draw, E[right half | left half], and which cells are on the left.
    """
    distance = np.minimum(np.arange(N), N - np.arange(N))
    power = 20 / np.square(np.add.outer(1 + distance**2, distance**2))
    covariance = np.fft.ifft2(power).real
    cells = np.argwhere(np.ones((N, N)))
    whole = covariance[tuple((cells[:, None] - cells[None]).transpose(2, 0, 1) % N)]
    left = cells[:, 1] < N // 2
    gain = whole[np.ix_(~left, left)] @ np.linalg.inv(whole[np.ix_(left, left)])
    draw = np.fft.ifft2(np.sqrt(power) * np.fft.fft2(np.random.default_rng(0).normal(size=(B, N, N)))).real

    def make(known):
        known, where = jnp.asarray(known[:, None, :, :, None], jnp.float32), left.reshape(1, 1, N, N, 1)
        filled = inpainted(lambda x, tau, _: field(process, power)(x, tau), process, known, where)
        x = process.sigma(1.0) * jax.random.normal(jax.random.key(1), known.shape)
        made = march(solver, process, lambda x, tau: filled(x, tau, None), grid.Karras()(process, 40), x)
        return np.asarray(made).reshape(B, -1)

    draw_ = draw.reshape(B, -1)
    return make(draw), make(0 * draw), draw_, draw_[:, left] @ gain.T, left


@pytest.mark.parametrize(
    ("solver", "process", "least"),
    [(Heun(), RectifiedFlow(), 0.3), (Heun(), EDM(), 0.3), (DDIM(eta=1.0), RectifiedFlow(), 0.45)],
    ids=["flow", "edm", "ancestral"],
)
def test_what_is_known_stays_and_the_rest_follows_it(solver, process, least):
    """The known half acts on the other as in E[right | left], but for its size; fresh noise lets it act more.

    All is linear, so the difference to a left half of zeros is what it does.
    """
    found, without, draw, expected, left = response(solver, process)
    np.testing.assert_allclose(found[:, left], draw[:, left], atol=1e-6)
    done = (found - without)[:, ~left]
    assert (done * expected).sum() / np.sqrt((done**2).sum() * (expected**2).sum()) > 0.85
    assert least < (done * expected).sum() / (expected**2).sum() < 1


def test_guiding_towards_a_class_and_a_loss_samples_what_it_should(x64):
    """N(0, 1) with the exact likelihood of a noisy reading y = x0 + noise of variance r: the posterior, by the flow."""
    process, y, r = RectifiedFlow(), 1.2, 0.5
    x = jax.random.normal(jax.random.key(2), (4000, 1, 1, 1, 1), float)

    def reading(x, tau):
        at = process.at(tau, x.ndim)
        mean, left = at.alpha * x / (at.alpha**2 + at.sigma**2), at.sigma**2 / (at.alpha**2 + at.sigma**2)
        return -0.5 * ((y - mean) ** 2 / (r + left)).sum((1, 2, 3, 4))

    guided = by_classifier(gaussian(process), process, reading)
    found = march(Heun(), process, lambda x, tau: guided(x, tau, None), grid.Karras()(process, 60), x)
    expected = y / (1 + r) + x.ravel() * np.sqrt(r / (1 + r))  # the flow of a Gaussian is linear
    np.testing.assert_allclose(found.ravel(), expected, atol=2e-2)
