"""What all solvers of the ODE that remember nothing have in common."""

import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.process import EDM, LinearVP, Prediction, RectifiedFlow
from diorama.sample import grid
from diorama.sample.solver.adaptive import Adaptive
from diorama.sample.solver.ancestral import Ancestral
from diorama.sample.solver.dpm_single import DPMSingle
from diorama.sample.solver.edm import Churn
from diorama.sample.solver.exponential import SEEDS
from diorama.sample.solver.midpoint import Midpoint
from diorama.sample.solver.rk4 import RK4
from diorama.sample.solver.single import Single
from tests.sample.solver.checks import MEAN, STARTS, THREE, VARIANCE, even_in_logsnr, slopes
from tests.sample.truths import gaussian, march

SOLVERS = [Midpoint(), RK4(), DPMSingle(2), DPMSingle(3), Adaptive(1e-3)]
NOISY = [SEEDS(), Ancestral(Midpoint()), Churn()]
ids = {"ids": lambda case: str(case) if hasattr(case, "step") else type(case).__name__}


@pytest.mark.parametrize("process", THREE, **ids)
@pytest.mark.parametrize("solver", SOLVERS[:4], **ids)
def test_it_reaches_its_order(solver, process, x64):
    """On a Gaussian and on six in the plane, in steps even in logsnr."""
    for slope, error in slopes(solver, process, even_in_logsnr(process)):
        assert slope == pytest.approx(solver.order, abs=0.3)
        assert error < 2e-3


@pytest.mark.parametrize("process", [RectifiedFlow(), EDM(), LinearVP()], **ids)
@pytest.mark.parametrize("solver", [*SOLVERS, *NOISY], **ids)
def test_a_point_is_found_in_any_number_of_steps(process, solver):
    """Data that are one point change neither x0 nor epsilon. From pure noise, in single precision."""
    x = jnp.asarray(STARTS, jnp.float32) * process.sigma(1.0)
    found = march(solver, process, gaussian(process, MEAN, 0.0), grid.Uniform()(process, 3), x)
    np.testing.assert_allclose(found, MEAN, atol=3e-6)


@pytest.mark.parametrize("solver", [Midpoint(), DPMSingle(3), SEEDS(), Ancestral(Midpoint())], **ids)
def test_one_step_to_data_is_the_denoiser(solver, x64):
    process, x = RectifiedFlow(), jnp.asarray(STARTS)
    found = march(solver, process, gaussian(process, MEAN, VARIANCE), [0.7, 0.0], x)
    np.testing.assert_allclose(found, gaussian(process, MEAN, VARIANCE)(x, jnp.full((8, 2), 0.7)).x0, rtol=1e-9)


@pytest.mark.parametrize("solver", [*SOLVERS, SEEDS(eta=0.0)], **ids)
def test_every_frame_goes_its_own_way(solver, x64):
    """To data; waiting before; waiting half-way; and up: as a clip of its own, and waits change nothing."""
    process, taus = RectifiedFlow(), np.linspace(0.95, 0.0, 7)
    x = jnp.asarray(STARTS[:, :1])
    ways = [*taus, 0, 0], [0.95, 0.95, *taus], [*taus[:4], *[taus[3]] * 2, *taus[4:]], np.linspace(0.5, 0.95, 9)
    rows = np.stack(ways, axis=1)
    denoise = gaussian(process, MEAN, VARIANCE)
    frames = march(solver, process, denoise, np.repeat(rows[:, None], 8, axis=1), jnp.tile(x, (1, 4, 1, 1, 1)))
    alone = march(solver, process, denoise, np.repeat(rows, 8, axis=1), jnp.tile(x, (4, 1, 1, 1, 1)))
    alone = jnp.swapaxes(alone.reshape(4, 8, 1, 1, 2), 0, 1)
    near = 2e-3 if isinstance(solver, Adaptive) else 1e-9  # whose parts are common to an example's frames
    np.testing.assert_allclose(frames, alone, rtol=near, atol=near)
    for frame in (1, 2):
        np.testing.assert_allclose(alone[:, frame], alone[:, 0], rtol=1e-9)


def test_inner_solvers_are_those_that_draw_nothing_and_remember_nothing():
    for kind in typing.get_args(Single):
        assert not kind().stochastic
        assert kind().start(jnp.zeros((1, 1, 1, 1, 1))) == ()


@pytest.mark.parametrize(
    ("solver", "calls"),
    [(Midpoint(), 4), (DPMSingle(2), 4), (DPMSingle(3), 5), (RK4(), 11), (SEEDS(), 4), (Adaptive(1.0), 9)],
    **ids,
)
def test_evaluations_that_say_nothing_are_spared(solver, calls):
    """A step from alpha = 0, one inside and one to data; nobody asks about data."""
    seen = []

    def denoise(x, tau):
        jax.debug.callback(lambda tau: seen.append(float(tau.min())), tau)
        return Prediction(0 * x, 0 * x)

    march(solver, RectifiedFlow(), denoise, [1.0, 0.6, 0.3, 0.0], jnp.zeros((1, 1, 1, 1, 1)))
    jax.effects_barrier()
    assert len(seen) == calls
    assert min(seen) > 0


@pytest.mark.parametrize(
    ("noisy", "still"),
    [
        (SEEDS(eta=1e-8), DPMSingle(2)),
        (SEEDS(eta=0.0), DPMSingle(2)),
        (Ancestral(Midpoint(), eta=1e-5), Midpoint()),
        (Ancestral(Midpoint(), eta=0.0), Midpoint()),
        (Churn(Midpoint(), gamma=1e-9), Midpoint()),
        (Churn(RK4(), gamma=0.0), RK4()),
    ],
    **ids,
)
def test_without_fresh_noise_they_are_the_ode_s(noisy, still, x64):
    process, x = EDM(), 80 * jnp.asarray(STARTS)
    a, b = (
        march(solver, process, gaussian(process, MEAN, VARIANCE), grid.Karras()(process, 8), x)
        for solver in (noisy, still)
    )
    np.testing.assert_allclose(a, b, atol=1e-3 if noisy.stochastic else 1e-9)
    assert (jnp.abs(a - b).max() > 1e-12) == noisy.stochastic
