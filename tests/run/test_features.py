"""Features beside latents: whose they are, where they lie, and a run that aligns to them."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from diorama.core import UserError
from diorama.core.config import parse, to_text
from diorama.data import Catalogue, ClipSource
from diorama.data.embed import dense
from diorama.data.embed.dense import OwnPlaces
from diorama.diffusion.align import IREPA, REPA, Dispersive, SelfAlignment, denoiser_of
from diorama.net.features import at_grid, folded
from diorama.run import DenoiserStage, Folder, Run
from diorama.run import latents as module
from diorama.run.features import features, grid_of, learned
from diorama.run.latents import Choice, draw
from diorama.run.train import latents, train_denoiser
from diorama.train import load_model
from tests.run.conftest import RUN, STILL, VIDEO

OWN = OwnPlaces(side=16, filters=4, width=3)
ALIGN = (REPA(1, hidden=8), SelfAlignment(0, 1))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches and catalogues as small as the catalogue."""
    monkeypatch.setattr(module, "TOGETHER", 4)
    monkeypatch.setattr(dense, "LEAST", 8)


@pytest.fixture
def begun(tmp_path, folder, catalogue):
    """A run with terms, on a catalogue that is its own, as after its codec's training."""
    shutil.copytree(catalogue.path, tmp_path / "catalogue")
    stage = replace(RUN.denoiser, align=ALIGN, features=OWN, buckets=(VIDEO,))
    run = replace(RUN, denoiser=stage)
    own = Catalogue(tmp_path / "catalogue")
    made = Folder.claim(tmp_path / "run", run, own)
    for name in ("codec.safetensors", "tokenizer.json"):
        shutil.copy(folder.path / name, made.path / name)
    return run, own, made


def test_a_run_aligns_and_its_release_is_as_any_others(begun):
    run, catalogue, folder = begun
    source = latents(run, catalogue, folder, VIDEO)
    shape = folder.codec().latent_shape(9, 32, 32)
    assert source[0]["features"].shape == (*grid_of(run.denoiser, shape), 3)
    # what the encoder sees in the clip, folded in time as the codec folds it
    note = json.loads((folder.path / "features.json").read_text())
    encoder, name = OWN.made(folder.path / "features.safetensors", pytest.fail)
    assert note == {"width": 3, "hash": name}
    clip = ClipSource(catalogue, "train", 9, 32, 32)[5]
    want = folded(encoder(clip["media"][None] / np.float32(127.5) - 1), 4)
    want = at_grid(want, (1, *grid_of(run.denoiser, shape)))[0]
    at = int(np.flatnonzero(np.asarray(source.columns["id"]) == clip["id"])[0])
    np.testing.assert_allclose(source[at]["features"], want, rtol=2e-3, atol=2e-3)

    train_denoiser(run, catalogue, folder)
    released = folder.denoiser()  # loads without heads
    trained = load_model(folder.path / "denoiser", learned(run, folder)[0])
    assert set(trained.heads) == {"repa", "self_alignment"}
    jax.tree.map(np.testing.assert_array_equal, denoiser_of(trained), released)
    log = [json.loads(line) for line in (folder.path / "denoiser" / "log.jsonl").read_text().splitlines()]
    assert {"repa", "self_alignment", "loss_tau1"} <= log[-1].keys()

    (folder.path / "features.json").write_text(json.dumps(note | {"hash": "other"}))
    with pytest.raises(UserError, match="another encoder"):
        features(run, folder, ClipSource(catalogue, "train", 9, 32, 32), VIDEO)


def test_views_of_a_clip_and_their_features_are_drawn_together():
    class Two:
        views = 2

        def __init__(self, start):
            self.start = start

        def read(self, i, view):
            return self.start + 2 * i + view

    example = {"media": Choice(Two(0), 3), "features": Choice(Two(100), 3), "id": 7}
    drawn = [draw(example, np.random.default_rng(k)) for k in range(8)]
    assert {d["media"] for d in drawn} == {6, 7}
    assert all(d["features"] == d["media"] + 100 and d["id"] == 7 for d in drawn)


def test_a_stage_that_does_not_fit_together_is_refused():
    plain = RUN.denoiser
    with pytest.raises(UserError, match="give features"):
        replace(plain, align=(REPA(),))
    with pytest.raises(UserError, match="no term"):
        replace(plain, align=(Dispersive(),), features=OWN)
    named = replace(plain.denoiser, conditions={"features": plain.denoiser.conditions["label"]})
    with pytest.raises(UserError, match="another name"):
        DenoiserStage(named, (STILL,), plain.train, align=(IREPA(),), features=OWN)


def test_terms_are_part_of_the_configuration():
    run = replace(RUN, denoiser=replace(RUN.denoiser, align=(IREPA(1), Dispersive(0)), features=OWN))
    assert parse(to_text(run), Run) == run
    old = "\n".join(line for line in to_text(RUN).splitlines() if ".align" not in line and ".features" not in line)
    assert parse(old, Run, fill=True) == RUN
