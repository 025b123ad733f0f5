import jax.numpy as jnp
import numpy as np
import pytest

from diorama.evaluate.lab.conversions import TAUS, measure
from diorama.process import Prediction
from tests.process.test_gaussian import PROCESSES


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_every_prediction_to_every_other_and_back_in_single_precision(process):
    """1e-6, over the whole range of noise, of what x0 and epsilon each contribute to x_tau.

    The error of x0 itself is that over alpha, and of epsilon over sigma: x_tau has a last digit, and what is below it
    can be in no prediction that is made of x_tau.
    """
    worst = measure(process)["worst"]
    assert max(worst.values()) <= 1e-6, max(worst, key=worst.get)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)
def test_f_keeps_both_parts_of_a_pair_whatever_the_noise(process):
    """F and x_tau are (x0 / d, epsilon) turned by an angle: nothing is lost at any noise time, without any factor."""
    x0, epsilon = np.random.default_rng(0).normal(size=(2, len(TAUS), 1, 2, 2, 1)).astype(np.float32)
    level = process.at(jnp.asarray(TAUS, jnp.float32), 5)
    pair = Prediction(process.sigma_data * x0, jnp.asarray(epsilon))
    back = Prediction.of("F", pair.to("F", level), level.alpha * pair.x0 + level.sigma * pair.epsilon, level)
    np.testing.assert_allclose(back.x0, pair.x0, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(back.epsilon, pair.epsilon, rtol=1e-6, atol=1e-6)
