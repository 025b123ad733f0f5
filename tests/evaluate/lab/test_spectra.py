"""Pictures and videos with an exact score come out with their spectrum."""

import jax.numpy as jnp
import numpy as np
import pytest

from diorama.evaluate.lab.spectra import PICTURES, VIDEOS, measure, octaves, ring_power
from diorama.process import RectifiedFlow
from diorama.process.spectrum import rapsd
from diorama.sample import DPMSolver


@pytest.mark.parametrize(("law", "n", "batch"), [(PICTURES, 64, 32), (VIDEOS, 16, 8)], ids=["pictures", "videos"])
def test_sampled_fields_have_their_spectrum_and_lie_at_the_floor(law, n, batch):
    """Against the exact map of the same noise, whose law is known, every octave within 2 %; the distance to exact draws
    is no more than they have from each other."""
    found = measure(law, DPMSolver(3), RectifiedFlow(), 30, n, batch)
    np.testing.assert_allclose(found["against map"], 1, atol=0.004)
    assert (np.abs(np.asarray(found["against law"]) - 1) <= 0.02 + 2 * np.asarray(found["width"])).all()
    assert found["distance"] <= max(found["floors"]) * 1.1


def test_the_truth_of_a_spectrum_is_that_of_exact_draws():
    import jax

    for law in (PICTURES, VIDEOS):
        power = rapsd(law.draw(jax.random.key(0), 24)).mean((0, 1, 3))
        np.testing.assert_allclose(octaves(np.asarray(power))[1:], octaves(ring_power(law))[1:], rtol=0.15)
    assert octaves(np.arange(1.0, 9.0)).tolist() == [1, 5, 30]
    assert jnp.isfinite(power).all()
