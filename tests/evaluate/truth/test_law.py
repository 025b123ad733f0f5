"""Laws against each other, against their own derivatives and against integrals."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.evaluate.truth import Classes, Field, FieldMixture, Gaussian, Mixture, Tilted, TiltedField, ring, tilted
from diorama.process import (
    EDM,
    Coloured,
    CosineVP,
    LinearVP,
    Prediction,
    RectifiedFlow,
    Shifted,
    ShiftedBySize,
    Trigonometric,
    ZeroTerminal,
)

PINK = Coloured(1.0, 0.5)
SMALL = Field((2, 4, 4, 1), space=2.0, time=1.0, std=0.7, mean=0.3)
MODES = Mixture(((1.0, 0.2), (-0.5, 0.9), (-0.5, -0.9)), (0.15, 0.3, 0.2), (0.5, 0.3, 0.2))
KINDS = FieldMixture((SMALL, Field((2, 4, 4, 1), space=1.0, time=0.5, mean=-0.4)), (0.3, 0.7))
CASES = [
    (Gaussian(0.3, 0.25, (2, 2, 4, 1)), CosineVP(noise=PINK)),
    (SMALL, EDM()),
    (SMALL, Shifted(RectifiedFlow(noise=PINK), 3.0)),
    (MODES, LinearVP()),
    (KINDS, ZeroTerminal()),
]
every = pytest.mark.parametrize(("law", "process"), CASES, ids=lambda case: type(case).__name__)


@partial(jax.jit, static_argnames=("law", "process"))
def look(law, x, process, tau):
    """`law.look`, compiled as a whole."""
    return law.look(x, process, tau)


@partial(jax.jit, static_argnames=("law", "process", "n"))
def noised(law, process, tau, n=3):
    """Points as they lie at `tau`."""
    keys = jax.random.split(jax.random.key(1))
    epsilon = process.noise.colour(jax.random.normal(keys[1], (n, *law.shape), float))
    return process.add_noise(law.draw(keys[0], n), epsilon, tau)


@every
def test_the_score_is_the_gradient_of_the_log_density(law, process):
    slope = jax.jit(jax.grad(lambda x, tau: law.logp(x, process, tau).sum()))
    score = jax.jit(lambda x, tau: law.score(x, process, tau))
    for tau in (0.0, 0.2, 0.7):
        x = noised(law, process, tau)
        np.testing.assert_allclose(score(x, tau), slope(x, tau), rtol=1e-7, atol=1e-9)


@every
def test_the_denoiser_is_tweedie_s(law, process):
    """epsilon = -sigma N score, and alpha x0 + sigma epsilon = x_tau: E[x0 | x_tau] from the score."""
    tau = 0.4
    x, at = noised(law, process, tau), process.at(tau, 5)
    pair = jax.jit(law.denoiser(process))(x, jnp.full((3, x.shape[1]), tau), None)
    covered = process.noise.colour(process.noise.colour(look(law, x, process, tau).score))  # N is colour twice
    np.testing.assert_allclose(pair.epsilon, -at.sigma * covered, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(at.alpha * pair.x0 + at.sigma * pair.epsilon, x, rtol=1e-9, atol=1e-9)


@every
def test_neither_end_has_a_pole(law, process):
    for tau in (0.0, 1.0):
        seen = look(law, noised(law, process, tau), process, tau)
        assert all(np.isfinite(part).all() for part in seen)
    x = noised(law, process, 0.0)
    np.testing.assert_allclose(look(law, x, process, 0.0).x0, x, rtol=1e-9, atol=1e-9)


@every
def test_flow_maps_compose_and_are_the_fine_integral(law, process):
    x = noised(law, process, 0.8)
    end = law.flow(process, x, 0.8, 0.1)
    np.testing.assert_allclose(law.flow(process, law.flow(process, x, 0.8, 0.3), 0.3, 0.1), end, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(law.flow(process, end, 0.1, 0.8), x, rtol=1e-6, atol=1e-6)
    numeric = super(type(law), law).flow(process, x, 0.8, 0.1)  # the closed forms against Dormand and Prince
    np.testing.assert_allclose(end, numeric, rtol=1e-8, atol=1e-8)


def test_flow_maps_agree_between_processes():
    """What is pure noise for one is pure noise for all, and the same data come out of it."""
    z = noised(MODES, RectifiedFlow(), 1.0)
    ends = [MODES.flow(process, z * process.sigma(1.0), 1.0, 0.0) for process in (RectifiedFlow(), Trigonometric())]
    np.testing.assert_allclose(*ends, atol=1e-10)


@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_densities_integrate_to_one_and_are_sums_of_components(tau):
    process = RectifiedFlow()
    line = np.linspace(-4, 4, 201)
    plane = jnp.asarray(np.stack(np.meshgrid(line, line), -1).reshape(-1, 1, 1, 1, 2))
    density = jnp.exp(look(MODES, plane, process, tau).logp)
    assert float(density.sum() * (line[1] - line[0]) ** 2) == pytest.approx(1, abs=1e-9)
    parts = [look(Mixture((m,), s), plane, process, tau).logp for m, s in zip(MODES.means, MODES.std, strict=True)]
    np.testing.assert_allclose(
        density, sum(w * jnp.exp(p) for w, p in zip(MODES.weights, parts, strict=True)), atol=1e-12
    )


def test_a_mixture_of_one_is_a_gaussian_and_a_flat_field_is_one_too():
    process, tau = CosineVP(), 0.4
    x = noised(Gaussian(0.3, 0.25, (1, 4, 4, 1)), process, tau)
    a = look(Gaussian(0.3, 0.25), x, process, tau)
    for law in (Mixture(((0.3,),), 0.5), Field((1, 4, 4, 1), space=0.0, std=0.5, mean=0.3)):
        for one, other in zip(a, look(law, x, process, tau), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("process", [RectifiedFlow(), RectifiedFlow(noise=PINK)], ids=["white", "pink"])
def test_a_field_is_the_gaussian_of_its_dense_covariance(process):
    """Every entry of the covariance matrix on a tiny grid, built by filtering unit impulses."""
    n, tau = 32, 0.35
    root = np.asarray(SMALL.wiener.draw(jnp.eye(n).reshape(n, *SMALL.shape))).reshape(n, n) - SMALL.mean
    colour = np.asarray(process.noise.colour(jnp.eye(n).reshape(n, *SMALL.shape))).reshape(n, n)
    data, noise, alpha, sigma = root.T @ root, colour.T @ colour, 1 - tau, tau
    x = noised(SMALL, process, tau, 1)
    seen, x = look(SMALL, x, process, tau), np.asarray(x)
    apart, total = x.ravel() - alpha * SMALL.mean, alpha**2 * data + sigma**2 * noise
    u = np.linalg.solve(total, apart)
    np.testing.assert_allclose(np.ravel(seen.x0), SMALL.mean + alpha * data @ u, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(np.ravel(seen.epsilon), sigma * noise @ u, rtol=1e-8, atol=1e-9)
    exact = -0.5 * (apart @ u + np.linalg.slogdet(2 * np.pi * total)[1])
    np.testing.assert_allclose(seen.logp, exact, rtol=1e-10)


@pytest.mark.parametrize("law", [Gaussian(0.3, 0.25), MODES, SMALL, KINDS], ids=lambda law: type(law).__name__)
def test_draws_have_the_moments_that_the_denoiser_believes(law):
    """At tau = 1, E[x0 | x] is the mean of the draws; and over draws E[x . score] = -size, by parts."""
    n, process = 20000, RectifiedFlow()
    x = law.draw(jax.random.key(3), n)
    prior = look(law, jnp.zeros((1, *law.shape)), process, 1.0).x0[0]
    np.testing.assert_allclose(x.mean(0), prior, atol=5 * float(x.std()) / n**0.5)
    inner = np.asarray((x * look(law, x, process, 0.0).score).sum((1, 2, 3, 4)))
    assert inner.mean() == pytest.approx(-x[0].size, abs=4 * inner.std() / n**0.5)


def test_frames_may_differ_in_noise_where_they_are_independent():
    tau = jnp.asarray([[0.2, 0.6]])
    still = Field((2, 4, 4, 1), space=2.0)
    x = noised(still, RectifiedFlow(), tau, 1)
    one = Field((1, 4, 4, 1), space=2.0)
    frames = [look(one, x[:, f : f + 1], RectifiedFlow(), tau[:, f : f + 1]).x0 for f in range(2)]
    np.testing.assert_allclose(look(still, x, RectifiedFlow(), tau).x0, jnp.concatenate(frames, 1), rtol=1e-9)
    assert np.isnan(look(SMALL, x, RectifiedFlow(), tau).x0).all()


def test_a_point_is_known_without_dividing_by_nothing():
    pair = Gaussian(0.3, 0.0).denoiser(RectifiedFlow())(jnp.full((1, 1, 1, 1, 1), 0.3), jnp.zeros((1, 1)), None)
    assert isinstance(pair, Prediction)
    assert pair.x0.item() == 0.3
    assert pair.epsilon.item() == 0


def test_what_cannot_be_known_is_refused():
    with pytest.raises(UserError, match="white noise only"):
        MODES.look(jnp.zeros((1, 1, 1, 1, 2)), RectifiedFlow(noise=PINK), 0.5)
    with pytest.raises(UserError, match="a weight for every mean"):
        Mixture(((0.0,), (1.0,)), 0.1, (0.4, 0.4))
    with pytest.raises(UserError, match="one shape"):
        FieldMixture((SMALL, Field((1, 4, 4, 1))))
    with pytest.raises(UserError, match=r"take process\.of"):
        MODES.look(jnp.zeros((1, 1, 1, 1, 2)), ShiftedBySize(), 0.5)
    with pytest.raises(UserError, match="no finite integral"):
        tilted(Classes(Gaussian(0.0, 1.0), Gaussian(0.0, 2.0)), 3.0)
    with pytest.raises(UserError, match="one or two dimensions"):
        Tilted(Classes(KINDS, SMALL), 2.0)


def test_tilted_gaussians_are_those_of_the_table():
    """p = N(0, 2), p_c = N(0, 1): variances 2/(w + 1), 2^(1-w) and (2 - 2^(2-2w))/(2w - 1) (arXiv 2408.09000)."""
    pair = Classes()
    for weight, ode, sde, exact in ((2, 0.5, 0.58333, 0.66667), (3, 0.25, 0.3875, 0.5), (5, 0.0625, 0.22179, 0.33333)):
        assert pair.ode_variance(weight) == pytest.approx(ode)
        assert pair.sde_variance(weight) == pytest.approx(sde, abs=5e-6)
        assert tilted(pair, weight).variance == pytest.approx(exact, abs=5e-6)


def test_tilted_laws_by_sums_are_the_closed_forms_and_normalised():
    gaussians = Classes(Gaussian(0.1, 2.0), Gaussian(0.5, 1.0))
    closed, summed = tilted(gaussians, 3.0), Tilted(gaussians, 3.0, reach=6.0)
    assert summed.mean == pytest.approx(closed.mean)
    assert summed.covariance.item() == pytest.approx(closed.variance)
    x = jnp.linspace(-1, 1, 5).reshape(-1, 1, 1, 1, 1)
    np.testing.assert_allclose(summed.logp(x), closed.logp(x, RectifiedFlow()), rtol=1e-9)
    plane = tilted(Classes(ring(6, 1.0, 0.25), Mixture(((1.0, 0.0), (0.5, 0.8660254)), 0.25)), 2.0)
    assert plane.probabilities.sum() == pytest.approx(1, abs=1e-9)
    drawn = plane.draw(jax.random.key(0), 8000).reshape(-1, 2)
    np.testing.assert_allclose(drawn.mean(0), plane.mean, atol=0.02)
    np.testing.assert_allclose(np.cov(drawn.T), plane.covariance, atol=0.01)


def test_a_tilted_field_is_the_product_in_every_mode():
    p, p_c = Field((1, 4, 4, 2), 2.0, mean=(0.1, 0.3)), Field((1, 4, 4, 2), 1.0, std=0.5, mean=(0.4, -0.2))
    law = tilted(Classes(p, p_c), 2.0)
    assert isinstance(law, TiltedField)
    x, y = noised(law, RectifiedFlow(), 0.0, 2), noised(p_c, RectifiedFlow(), 0.0, 2)

    @jax.jit
    def constant(x):
        """log of p^-1 p_c^2 over the tilted law."""
        return -p.logp(x, RectifiedFlow()) + 2 * p_c.logp(x, RectifiedFlow()) - law.logp(x, RectifiedFlow())

    np.testing.assert_allclose(constant(x), constant(y), rtol=1e-9)


def test_the_denoiser_of_classes_hears_its_conditions():
    pair, x, tau = Classes(), jnp.ones((2, 1, 1, 1, 1)), jnp.full((2, 1), 0.5)
    found = pair.denoiser(RectifiedFlow())(x, tau, jnp.asarray([0.0, 1.0]))
    for i, law in enumerate((pair.marginal, pair.conditional)):
        np.testing.assert_allclose(found.x0[i], look(law, x, RectifiedFlow(), tau).x0[i])
