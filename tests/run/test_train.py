"""The steps of training a run, without the training."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest

from diorama.codec import CodecLoss, PixelCodecConfig, TokenCodecConfig, encode
from diorama.codec.loss import L2, Equivariance, LatentSpectrum, NetworkConfig, OwnPerceptual, Perceptual
from diorama.core import UserError, override
from diorama.process import density, rapsd
from diorama.run import Bucket, CodecStage, Folder
from diorama.run.latents import fingerprint
from diorama.run.train import (
    clips,
    conditions,
    latents,
    learn_tokenizer,
    possible,
    quantise,
    sources,
    train_codec,
    train_denoiser,
    train_run,
)
from diorama.sample import grid
from diorama.train import Role, Train
from tests.run.conftest import RUN, STILL, VIDEO


def test_clips_by_shape(catalogue):
    assert len(clips(catalogue, VIDEO, "train")) == 21
    assert len(clips(catalogue, STILL, "train")) == 11
    assert len(clips(catalogue, replace(STILL, kind="any"), "train")) == 32
    assert clips(catalogue, Bucket(frames=99), "train") is None
    assert [b for b, _ in sources(catalogue, (Bucket(frames=99), STILL))] == [STILL]
    with pytest.raises(UserError, match="no training clip for any bucket"):
        sources(catalogue, (Bucket(frames=99),))


def test_the_tokenizer_is_learned_once(folder, catalogue):
    path = folder.path / "tokenizer.json"
    before = path.stat().st_mtime_ns
    learn_tokenizer(RUN, catalogue, folder)
    assert path.stat().st_mtime_ns == before


def test_latents_are_the_codecs_of_every_training_clip_and_kept(folder, catalogue):
    made = latents(RUN, catalogue, folder, VIDEO)
    source = clips(catalogue, VIDEO, "train")
    assert len(made) == len(source) == 21
    np.testing.assert_array_equal(made.weights, source.weights)
    [where] = (catalogue.path / "latents").glob(f"{fingerprint(folder)}/9x32x32.stride1.float32")
    before = {path: path.stat().st_mtime_ns for path in where.glob("*/*")}
    for i in (0, 3, 20):
        alone = encode(folder.codec(), source[i]["media"][None] / np.float32(127.5) - 1)
        np.testing.assert_allclose(made[i]["media"], alone[0], atol=1e-5)
        assert made[i]["id"] == source[i]["id"]
        assert made[i]["label"] == source[i]["label"]
        words = folder.tokenizer().decode([t for t in made[i]["text"] if t])
        assert f" {source[i]['caption']}".startswith(words)
    assert set(made[0]) == {"media", "id", "text", "label"}
    again = latents(RUN, catalogue, folder, VIDEO)
    assert {path: path.stat().st_mtime_ns for path in where.glob("*/*")} == before
    np.testing.assert_array_equal(again[20]["media"], made[20]["media"])
    assert latents(RUN, catalogue, folder, STILL)[0]["media"].shape == (1, 8, 8, 4)
    notes = folder.path / "latents"
    assert sorted(p.name for p in notes.iterdir()) == ["0.9x32x32.json", "1.1x32x32.json"]
    told = json.loads((notes / "0.9x32x32.json").read_text())
    power = np.asarray(rapsd(np.stack([made[i]["media"] for i in range(21)]))).mean((0, 1, 3))
    np.testing.assert_allclose(told.pop("spectrum"), power, rtol=1e-5)
    assert told == {"path": str(where), "examples": 21}


def test_conditions_are_named_as_the_model_names_them(folder):
    out = conditions(RUN, folder, ["a seven", ""], np.array([9, -1]))
    assert set(out) == {"text", "label"}
    assert out["text"].shape == (2, 8)
    assert (out["text"] != 0).any(1).tolist() == [True, False]
    assert out["label"].tolist() == [9, -1]
    assert out["label"].dtype == np.int32


def test_more_classes_than_the_model_has_are_refused(folder):
    with pytest.raises(UserError, match=r"label 10 and .*conditions\.label\.classes is 10: set it to 11"):
        conditions(RUN, folder, [""], np.array([10]))
    fewer = override(RUN, ["denoiser.denoiser.conditions.label.classes=3"])
    assert conditions(fewer, folder, [""], np.array([2]))["label"].tolist() == [2]


def test_pixels_have_no_codec_to_train(tmp_path, catalogue):
    run = replace(RUN, codec=CodecStage(PixelCodecConfig()))
    folder = Folder.claim(tmp_path, run, catalogue)
    train_codec(run, catalogue, folder)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["catalogue.txt", "config.txt"]
    assert folder.codec().latent_shape(9, 32, 32) == (9, 32, 32, 3)


def test_data_that_fit_no_bucket_are_said(tmp_path, catalogue):
    long = override(RUN, ["denoiser.buckets.0.frames=99", "denoiser.buckets.1.frames=98"])
    with pytest.raises(UserError, match=r"no training clip for any bucket \(99x32x32, 98x32x32\)"):
        train_denoiser(long, catalogue, Folder.claim(tmp_path, long, catalogue))


def refused(run, catalogue, tmp_path, match):
    with pytest.raises(UserError, match=match):
        train_run(run, catalogue, tmp_path / "run")
    assert not (tmp_path / "run").exists()


OWN = OwnPerceptual(network=NetworkConfig((4,)))
LINE = TokenCodecConfig(spatial=8, temporal=4, channels=2, tokens=3, width=32, depth=1)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"train": Train(8, roles=(Role("critic"),))}, "model has no 'critic': its parts are decoder, encoder"),
        ({"buckets": (VIDEO, Bucket(9, 8, 8)), "loss": CodecLoss((L2(), LatentSpectrum()))}, "2 x 2 have no spectrum"),
        ({"loss": CodecLoss((L2(), OWN, Perceptual("nowhere"))), "perceptual": Train(8)}, "nowhere cannot be read"),
        ({"codec": LINE, "loss": CodecLoss((OWN, Equivariance())), "perceptual": Train(8)}, "as the picture does"),
    ],
    ids=["role", "size", "file", "latents"],
)
def test_what_a_codec_cannot_be_trained_for_is_said_first(changes, match, catalogue, tmp_path):
    refused(replace(RUN, codec=replace(RUN.codec, **changes)), catalogue, tmp_path, match)


def test_what_a_denoiser_cannot_be_is_said_before_its_codec_is_trained(catalogue, tmp_path):
    refused(replace(RUN, codec=replace(RUN.codec, codec=LINE)), catalogue, tmp_path, "1x3 cannot be halved 1 times")
    pixels = override(RUN, ["codec.codec=PixelCodecConfig"])
    roles = replace(RUN.denoiser, train=Train(8, roles=(Role("critic"),)))
    refused(
        replace(pixels, denoiser=roles), catalogue, tmp_path, "model has no 'critic': its parts are conditions, net"
    )


def test_batches_that_do_not_divide_are_said_before_a_codec_is_trained(catalogue, tmp_path):
    match = "denoiser.buckets 9x32x32: a batch of 4 does not divide over .* parts: make it a multiple of 3"
    refused(override(RUN, ["denoiser.train.accumulate=3"]), catalogue, tmp_path, match)
    refused(override(RUN, ["codec.train.accumulate=3"]), catalogue, tmp_path, "codec.buckets .* does not divide")


def test_batches_of_a_codec_that_is_trained_need_not_divide(catalogue, folder):
    possible(override(RUN, ["codec.train.accumulate=3"]), catalogue, folder)


@pytest.mark.parametrize("setting", ["batch=0", "batch=-8", "frames=0", "stride=0", "hop=0", "weight=-1"])
def test_no_bucket_of_nothing(setting):
    with pytest.raises(UserError, match="sizes, batch, stride and hop are at least 1"):
        override(RUN, [f"denoiser.buckets.1.{setting}"])


def test_what_a_trained_codec_was_trained_for_is_not_looked_for(catalogue, folder):
    possible(replace(RUN, codec=replace(RUN.codec, loss=CodecLoss((Perceptual("gone"),)))), catalogue, folder)


def test_a_network_of_its_own_may_be_trained_later(catalogue, tmp_path):
    """What asks for it is looked at all the same."""
    small = {"buckets": (replace(VIDEO, height=8, width=8),), "perceptual": Train(8)}
    stage = replace(RUN.codec, loss=CodecLoss((OWN, LatentSpectrum())), **small)
    refused(replace(RUN, codec=stage), catalogue, tmp_path, "2 x 2 have no spectrum")
    possible(replace(RUN, codec=replace(stage, loss=CodecLoss((OWN,)))), catalogue, Folder(tmp_path / "run"))


def test_a_density_and_a_grid_are_fitted_to_the_latents_once(catalogue, folder, tmp_path, monkeypatch):
    run = override(RUN, ["denoiser.objective.density=FromSpectrum", "sampling.grid=FromSpectrum"])
    mine = Folder.claim(tmp_path / "run", run, catalogue)
    for name in ("codec.safetensors", "tokenizer.json"):
        shutil.copy(folder.path / name, mine.path / name)
    assert mine.run() == run  # nothing is known yet
    trained = []

    def stop(how, init, objective, *rest, **more):
        assert objective.names == ("1x32x32", "9x32x32")  # the buckets, whose losses are logged apart
        trained.append(objective.objective)
        raise KeyboardInterrupt

    monkeypatch.setattr("diorama.run.train.train", stop)
    for _ in range(2):  # killed, and gone on with
        with pytest.raises(KeyboardInterrupt):
            train_denoiser(run, catalogue, mine)
    made = latents(run, catalogue, mine, VIDEO)
    x = np.stack([made[i]["media"] for i in range(len(made))])
    power = np.asarray(rapsd(x)).mean((0, 1, 3))
    fitted = mine.run().denoiser.objective
    assert trained == [fitted, fitted]
    assert fitted.density.tail == 0.1
    np.testing.assert_allclose(fitted.density.levels, density.spectral(power).levels, rtol=1e-5)
    assert mine.run().sampling.grid == grid.Spectral(fitted.density.levels, 0.1)
    Folder.claim(mine.path, run, catalogue)  # it is the same run still
    Folder.claim(mine.path, override(mine.written(), ["sampling.steps=3"]), catalogue)
    assert "denoiser.objective.density: FromSpectrum" in mine.config.read_text()


def test_uint8():
    values = np.array([-2, -1, -1 + 1 / 256, 0, 1, 2], np.float32)
    assert quantise(values).tolist() == [0, 0, 0, 128, 255, 255]
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(quantise(every * np.float32(1 / 127.5) - 1), every)
    assert quantise(jax.numpy.zeros(1)).dtype == np.uint8
