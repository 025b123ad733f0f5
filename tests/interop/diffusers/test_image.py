"""The image autoencoders compute what diffusers does, and ask for the arrays that it has."""

import numpy as np
import pytest

from diorama.interop.diffusers import pretrained
from tests.interop.diffusers import record
from tests.interop.diffusers.cases import CASES, PUBLISHED, built, digest, outputs, recorded, shapes, some


@pytest.mark.parametrize("name", CASES)
def test_numbers_recorded_of_diffusers(name):
    kept = recorded()["cases"][name]
    assert digest(shapes(CASES[name])) == kept["names"]
    mean, media = outputs(built(CASES[name]), CASES[name])
    assert 0.1 < mean.std() < 10
    assert 0.1 < media.std() < 10
    np.testing.assert_allclose(some(mean), kept["mean"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(some(media), kept["media"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_diffusers_itself(name, tmp_path):
    pytest.importorskip("diffusers", reason="parity at hand needs diffusers and torch; recorded numbers do not")
    options = CASES[name]
    assert record.parameters(options) == shapes(options)
    record.theirs(options).save_pretrained(tmp_path)
    mean, media = outputs(pretrained(tmp_path).autoencoder, options)
    their_mean, their_media = record.outputs(options)
    np.testing.assert_allclose(mean, their_mean, rtol=0, atol=1e-5)
    np.testing.assert_allclose(media, their_media, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PUBLISHED)
def test_names_and_shapes_of_published_models(name):
    assert digest(shapes(PUBLISHED[name])) == recorded()["published"][name]
