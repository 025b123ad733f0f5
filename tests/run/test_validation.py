"""What a denoiser is validated on is drawn from both splits, alike."""

from dataclasses import replace

import numpy as np
import pytest

from diorama.core import Layout, UserError
from diorama.core.layout import Share
from diorama.core.module import Policy
from diorama.run.train import latents
from diorama.run.validation import held
from diorama.train import Validate
from diorama.train.validation import Validation
from tests.run.conftest import RUN, STILL, VIDEO

HOW = Validate(every=8, clips=6, strata=2)


def validated(how=HOW, **changes):
    stage = replace(RUN.denoiser, train=replace(RUN.denoiser.train, validate=how))
    return replace(RUN, denoiser=stage, **changes)


@pytest.fixture(scope="module")
def sources(catalogue, folder):
    return [(b, latents(RUN, catalogue, folder, b), latents(RUN, catalogue, folder, b, "test")) for b in (VIDEO, STILL)]


def test_both_splits_give_as_many_and_none_is_in_both(sources):
    (_, trained, back), (_, _, stills) = sources
    assert (len(back), len(stills)) == (3, 1)
    given = held(validated(), sources)
    sizes = [[len(batch["id"]) for batch in part] for part in (given.held, given.train)]
    assert sizes == [[3, 1], [3, 1]]
    assert set(given.held[0]["id"]) == set(back.columns["id"])
    assert set(given.train[0]["id"]) <= set(trained.columns["id"])
    assert not set(given.train[0]["id"]) & set(given.held[0]["id"])
    assert set(given.held[0]) == {"media", "id", "text", "label"}
    at = list(back.columns["id"]).index(given.held[0]["id"][0])
    np.testing.assert_array_equal(given.held[0]["media"][0], back[at]["media"])


def test_batches_have_the_buckets_size_and_divide_over_devices(sources, monkeypatch):
    monkeypatch.setattr(Layout, "share", Share(0, 1))  # one process, of more devices than are here
    twice = [(replace(VIDEO, batch=2), *sources[0][1:])]
    assert [len(batch["id"]) for batch in held(validated(), twice).held] == [2]  # of three
    assert [len(batch["id"]) for batch in held(validated(layout=Layout(data=3)), sources).held] == [3]  # no still
    with pytest.raises(UserError, match=r"validate is set and no bucket has 8 held-back clips"):
        held(validated(layout=Layout(data=4, fsdp=2)), sources)


def test_a_denoiser_is_measured_by_band(sources, folder):
    given = held(validated(), sources)
    found = Validation(HOW, given, Policy(), 0, Layout())(folder.denoiser())
    assert {"validation", "validation_train", "validation_gap"} <= found.keys()
    bands = [name for name in found if name.startswith("validation_tau")]
    assert bands
    assert all(np.isfinite(value) for value in found.values())
