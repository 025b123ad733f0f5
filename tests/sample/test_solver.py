import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.process import EDM, CosineVP, LinearVP, Prediction, RectifiedFlow
from diorama.process.noise import Brownian, White
from diorama.sample import DDIM, Euler, Heun, grid
from diorama.sample.solver import SOLVERS, advance
from diorama.sample.solver.edm import Churn
from tests.process.test_gaussian import FEW
from tests.sample.solver.checks import MEAN, VARIANCE, law
from tests.sample.truths import gaussian, gaussian_map, march, mixture, order

GRIDS = [grid.Uniform(), grid.Karras(), grid.LogitNormal()]
every_process = pytest.mark.parametrize("process", FEW, ids=lambda p: type(p).__name__)


def start(process, b=16, seed=0):
    x = np.random.default_rng(seed).normal(size=(b, 1, 1, 1, 1))
    return jnp.asarray(x) * process.sigma(jnp.ones(()))


def orders(solver, process, steps=(48, 96, 192)):
    """Of every grid: the slope of the RMS distance to where the exact ODE takes the same noise, and the last.

    Noise times are per example, so the grids run side by side in one batch.
    """
    x = start(process)
    exact = gaussian_map(process, x, 1.0, 0.0, MEAN, VARIANCE)
    errors = []
    for n in steps:
        taus = np.repeat(np.stack([times(process, n) for times in GRIDS], 1), len(x), axis=1)
        found = march(solver, process, gaussian(process, MEAN, VARIANCE), taus, jnp.tile(x, (len(GRIDS), 1, 1, 1, 1)))
        errors.append(jnp.sqrt(jnp.mean((found.reshape(len(GRIDS), -1) - exact.ravel()) ** 2, axis=1)))
    errors = np.asarray(errors).T
    return {type(times).__name__: (order(steps, e), e[-1]) for times, e in zip(GRIDS, errors, strict=True)}


@every_process
def test_euler_is_of_first_order(process, x64):
    for name, (slope, error) in orders(Euler(), process).items():
        assert slope == pytest.approx(1, abs=0.13), name
        assert error < 0.02, name


@every_process
def test_heun_is_of_second_order(process, x64):
    for name, (slope, error) in orders(Heun(), process).items():
        if isinstance(process, LinearVP) and name != "Karras":
            # Its sigma is sqrt(0.1 tau) near data, so a grid even in tau ends with a step that is large in sigma.
            assert 1.2 < slope < 2, name
        else:
            assert slope == pytest.approx(2, abs=0.25), name
        assert error < 4e-3, name


@every_process
def test_solvers_follow_the_ode_between_any_two_levels(process, x64):
    """Frames with noise times of their own, downwards and (inversion) upwards."""
    ends = np.asarray([[0.9, 0.2], [0.3, 0.1], [0.2, 0.8], [1.0, 0.5]])
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4, 1, 1, 2))) * process.sigma(0.5)
    exact = jnp.stack([gaussian_map(process, x[:, f], *ends[f], MEAN, VARIANCE) for f in range(4)], axis=1)
    rows = np.broadcast_to(np.linspace(*ends.T, 201)[:, None], (201, 3, 4))
    found = march(Heun(), process, gaussian(process, MEAN, VARIANCE), rows, x)
    np.testing.assert_allclose(found, exact, rtol=5e-4, atol=1e-4 * float(jnp.abs(exact).max()))


@every_process
def test_ddim_without_eta_and_euler_are_one(process):
    x, denoise, taus = start(process).astype(jnp.float32), gaussian(process, MEAN, VARIANCE), grid.Karras()(process, 7)
    np.testing.assert_array_equal(
        march(DDIM(eta=0.0), process, denoise, taus, x), march(Euler(), process, denoise, taus, x)
    )


@every_process
@pytest.mark.parametrize(
    ("noisy", "still"),
    [(DDIM(eta=1e-5), DDIM()), (Churn(Euler(), 1e-9), Euler()), (Churn(gamma=1e-9), Heun())],
    ids=str,
)
def test_reinjected_noise_vanishes_in_the_limit(process, noisy, still, x64):
    x, denoise, taus = start(process), gaussian(process, MEAN, VARIANCE), grid.Karras()(process, 8)
    a, b = (march(solver, process, denoise, taus, x) for solver in (noisy, still))
    assert 0 < jnp.abs(a - b).max() < 1e-3


@every_process
@pytest.mark.parametrize("solver", [Euler(), Heun(), DDIM(), DDIM(eta=1.0), Churn(Euler(), 0.3)], ids=str)
def test_one_step_is_the_denoiser(process, solver, x64):
    x, denoise = start(process), gaussian(process, MEAN, VARIANCE)
    found = march(solver, process, denoise, [0.7, 0.0], x)
    if isinstance(solver, Churn):
        assert jnp.abs(found - denoise(x, jnp.full((16, 1), 0.7)).x0).max() > 1e-9
    else:
        np.testing.assert_allclose(found, denoise(x, jnp.full((16, 1), 0.7)).x0, rtol=1e-12)


@every_process
@pytest.mark.parametrize("solver", [Euler(), Heun(), DDIM(eta=1.0), Churn(gamma=0.2)], ids=str)
def test_a_point_is_found_in_one_step(process, solver, x64):
    """Data that are one point: x0 and epsilon do not change along the path, so no step is too large."""
    denoise = gaussian(process, MEAN, 0.0)
    for steps in (1, 3):
        np.testing.assert_allclose(
            march(solver, process, denoise, grid.Uniform()(process, steps), start(process)), MEAN, atol=1e-9
        )


@pytest.mark.parametrize("process", [CosineVP(), LinearVP()], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_eta_is_that_of_the_ddim_paper(process, eta, x64):
    """Equations 12 and 16 of arXiv 2010.02502, with its alpha-bar = alpha^2."""
    x, tau, tau_next = start(process), 0.6, 0.4
    denoise = gaussian(process, MEAN, VARIANCE)
    pair = denoise(x, jnp.full((16, 1), tau))
    bar, bar_next = process.alpha(tau) ** 2, process.alpha(tau_next) ** 2
    std = eta * jnp.sqrt((1 - bar_next) / (1 - bar)) * jnp.sqrt(1 - bar / bar_next)
    mean = jnp.sqrt(bar_next) * pair.x0 + jnp.sqrt(1 - bar_next - std**2) * pair.epsilon
    noise = (march(DDIM(eta=eta), process, denoise, [tau, tau_next], x) - mean) / std
    # The same noise whatever x and the process: it is a function of the key alone.
    again = march(DDIM(eta=1.0), EDM(rho=1.0), lambda x, tau: Prediction(0 * x, 0 * x), [0.6, 0.4], x) / 0.4 / 80
    again = again / jnp.sqrt(1 - (0.4 / 0.6) ** 2)
    np.testing.assert_allclose(noise, again, rtol=1e-9)


@every_process
@pytest.mark.parametrize("solver", [DDIM(eta=1.0), DDIM(eta=0.5), Churn(gamma=0.1)], ids=str)
def test_noisy_solvers_keep_the_law(process, solver, x64):
    mean, variance = law(solver, process, grid.Karras()(process, 500), MEAN, VARIANCE)
    assert mean == pytest.approx(MEAN, abs=1e-6)
    assert variance == pytest.approx(VARIANCE, rel=0.06)


@every_process
@pytest.mark.parametrize("solver", [Euler(), Heun(), DDIM(eta=1.0)], ids=str)
def test_a_mixture_is_sampled_with_its_moments(process, solver, x64):
    """Three Gaussians in the plane: weights, means and standard deviation of each."""
    means = np.asarray([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]])
    x = jnp.asarray(np.random.default_rng(2).normal(size=(3000, 1, 1, 1, 2))) * process.sigma(1.0)
    taus = grid.Karras()(process, 60 if isinstance(solver, Heun) else 400)
    points = np.asarray(march(solver, process, mixture(process, means, 0.15), taus, x)).reshape(-1, 2)
    nearest = np.linalg.norm(points[:, None] - means, axis=-1).argmin(1)
    for i in range(3):
        own = points[nearest == i]
        assert len(own) / 3000 == pytest.approx(1 / 3, abs=0.035)
        np.testing.assert_allclose(own.mean(0), means[i], atol=0.02)
        np.testing.assert_allclose(own.std(0), 0.15, atol=0.012)


@pytest.mark.parametrize("eta", [-0.1, 1.1, np.nan])
def test_no_share_of_noise_is_refused(eta):
    with pytest.raises(UserError, match="the share of fresh noise lies in"):
        DDIM(eta=eta)


def test_heun_spares_the_evaluation_at_data():
    calls = []

    def denoise(x, tau):
        jax.debug.callback(lambda: calls.append(1))
        return Prediction(0 * x, 0 * x)

    march(Heun(), RectifiedFlow(), denoise, [1.0, 0.6, 0.3, 0.0], jnp.zeros((1, 1, 1, 1, 1)))
    jax.effects_barrier()
    assert len(calls) == 5


KINDS = ("x0", "epsilon", "velocity")  # each the kind of an example


@pytest.mark.parametrize("solver", [example for kind in SOLVERS for example in kind.examples()], ids=repr)
def test_frames_that_stand_still_are_shown_as_they_are(solver):
    """Given ones, at 0, waiting ones, at 1, and one between, to frames that move beside them: in every evaluation."""
    process, seen = RectifiedFlow(), []
    tau = jnp.broadcast_to(jnp.asarray([0.0, 1.0, 0.5, 1.0, 0.6, 0.3]), (3, 6))
    tau_next = jnp.broadcast_to(jnp.asarray([0.0, 1.0, 0.5, 0.6, 0.3, 0.0]), (3, 6))
    x = jax.random.normal(jax.random.key(1), (3, 6, 1, 1, 2))

    def denoise(x, tau):
        jax.debug.callback(lambda *shown: seen.append(shown), x, tau)
        value = 0.3 * x + 0.1 * x.mean(1, keepdims=True)
        rows = (
            Prediction.of(kind, value[i:][:1], x[i:][:1], process.at(tau[i:][:1], 5)) for i, kind in enumerate(KINDS)
        )
        return jax.tree.map(lambda *pairs: jnp.concatenate(pairs), *rows)

    @jax.jit
    def step(x):
        noise = Brownian(jax.vmap(jax.random.key)(jnp.arange(3)), x.shape[1:], White())
        return advance(solver, denoise, process, x, tau, tau_next, noise, solver.start(x))[0]

    moved = step(x)
    jax.effects_barrier()
    np.testing.assert_array_equal(moved[:, :3], x[:, :3])
    assert len(seen) >= solver.evaluations
    for shown, at in seen:
        np.testing.assert_array_equal(shown[:, :3], x[:, :3])
        np.testing.assert_array_equal(at[:, :3], tau[:, :3])
