"""What must hold for any noise time, any process, any plan."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from diorama.process import Prediction
from diorama.process.prediction import PAIR, VALUE
from diorama.sample import grid, plan
from tests.process.test_gaussian import PROCESSES

processes = st.sampled_from(PROCESSES)
kinds = st.sampled_from(list(VALUE))
numbers = st.floats(-5, 5)


@settings(max_examples=40)
@given(processes, kinds, kinds, st.floats(0.03, 0.97), numbers, numbers)
def test_a_pair_survives_any_chain_of_predictions(process, first, second, tau, x0, epsilon):
    with jax.enable_x64(True):
        at = process.at(jnp.asarray(tau), 0)
        pair, x = Prediction(jnp.asarray(x0), jnp.asarray(epsilon)), at.alpha * x0 + at.sigma * epsilon
        for kind in (first, second, first):
            pair = Prediction.of(kind, pair.to(kind, at), x, at)
        np.testing.assert_allclose([pair.x0, pair.epsilon], [x0, epsilon], rtol=1e-4, atol=1e-4)


@settings(max_examples=40)
@given(processes, st.sampled_from(list(PAIR)), st.floats(0, 1, width=32), numbers, numbers)
def test_no_noise_time_makes_a_conversion_infinite(process, kind, tau, value, x):
    at = process.at(jnp.float32(tau), 0)
    pair = Prediction.of(kind, jnp.float32(value), at.alpha * x, at)
    if at.sigma > 1e-6 or at.sigma == 0:  # below, a wrong x0 means a huge epsilon, as it should
        assert np.isfinite(pair.x0)
        assert np.isfinite(pair.epsilon)


@given(st.integers(1, 8), st.integers(2, 9), st.data())
def test_every_frame_of_every_plan_walks_the_whole_grid(steps, frames, data):
    known, taus = data.draw(st.integers(0, frames - 1)), grid.Uniform()(PROCESSES[0], steps)
    matrices = (
        plan.joint(taus, frames, known),
        plan.autoregressive(taus, frames, known, chunk=data.draw(st.integers(1, 4))),
        plan.pyramid(taus, frames, known, lag=data.draw(st.integers(0, 4))),
    )
    for matrix in matrices:
        assert (matrix[:, :known] == 0).all()
        for frame in range(known, frames):
            np.testing.assert_array_equal(np.unique(matrix[:, frame])[::-1], taus)
            assert (np.diff(matrix[:, frame]) <= 0).all()
            assert (matrix[:, frame] <= matrix[:, -1]).all()
