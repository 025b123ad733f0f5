import jax.numpy as jnp
import numpy as np
import pytest

from diorama.process import Prediction
from diorama.sample import grid
from diorama.sample.solver.consistency import Consistency
from tests.sample.solver.checks import MEAN, STARTS, THREE, VARIANCE, Told, law
from tests.sample.truths import gaussian_map

every_process = pytest.mark.parametrize("process", THREE, ids=lambda p: type(p).__name__)


def consistent(process):
    """A consistency model: x_tau to where the exact ODE ends."""

    def denoise(x, tau):
        at = process.at(tau, x.ndim)
        spread = jnp.sqrt(VARIANCE / (at.alpha**2 * VARIANCE + at.sigma**2))
        return Prediction(MEAN + (x - at.alpha * MEAN) * spread, jnp.full_like(x, jnp.nan))

    return denoise


@every_process
def test_a_consistency_model_keeps_the_law_in_any_number_of_steps(process, x64):
    for steps in (1, 2, 5):
        found = law(Consistency(), process, grid.Uniform()(process, steps), denoise=consistent(process))
        assert found == pytest.approx((MEAN, VARIANCE), abs=5e-5 if steps == 1 else 1e-4)


@every_process
def test_of_a_mean_the_samples_are_too_smooth(process, x64):
    assert law(Consistency(), process, grid.Uniform()(process, 2))[1] < VARIANCE / 2


def test_it_is_algorithm_1(x64):
    """To data by the model, and noised anew; the last step is the model."""
    process, draws = THREE[0], np.random.default_rng(1).normal(size=(1, *STARTS.shape))
    for tau, tau_next in ((0.9, 0.4), (0.4, 0.0)):
        x0 = gaussian_map(process, jnp.asarray(STARTS), tau, 0.0, MEAN, VARIANCE)
        ends = (jnp.full((8, 2), t) for t in (tau, tau_next))
        found, _ = Consistency().step(consistent(process), process, jnp.asarray(STARTS), *ends, Told(draws), ())
        np.testing.assert_allclose(found, (1 - tau_next) * x0 + tau_next * draws[0], rtol=1e-9)
