"""One codec for many denoisers: a run that takes the codec of another."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from diorama.codec import PixelCodecConfig
from diorama.core import UserError, override, release
from diorama.run import CodecStage, Folder, Generator, TrainedConfig
from diorama.run.latents import fingerprint
from diorama.run.train import train_codec, train_run
from tests.run.conftest import RUN
from tests.run.test_foreign import CLIP, SILENT, SMALLEST, same, save, taken, with_weights
from tests.run.test_latents import cache, fill


def of(path, run=RUN):
    return replace(run, name="second", seed=1, codec=CodecStage(TrainedConfig(str(path))))


@pytest.fixture
def first(folder, tmp_path):
    """A run whose codec is trained."""
    shutil.copytree(folder.path, tmp_path / "first")
    return Folder(tmp_path / "first")


def test_a_run_has_a_copy_of_the_codec_and_reads_the_latents_that_another_encoded(first, catalogue, tmp_path):
    second = taken(of(first.path), catalogue, tmp_path / "second")
    assert fingerprint(second) == fingerprint(first)
    assert fill(cache(tmp_path, first, catalogue), first) == 21
    assert fill(cache(tmp_path, second, catalogue), second) == 0
    note = json.loads((second.path / "codec.json").read_text())
    assert note["path"] == str(first.path)
    assert "codec.widths: (8,)\n" in note["config"]
    first.path.rename(tmp_path / "moved")
    same(second.codec(), Folder(tmp_path / "moved").codec())
    assert second.codec_config() == RUN.codec.codec
    train_codec(of(first.path), catalogue, second)  # nothing is left to do
    third = taken(of(second.path), catalogue, tmp_path / "third")
    assert fingerprint(third) == fingerprint(second)


def test_a_codec_that_changed_is_seen(first, catalogue, tmp_path):
    second = taken(of(first.path), catalogue, tmp_path / "second")
    codec = first.codec()
    release.save(replace(codec, mean=codec.mean + 1), first.parameters)
    with pytest.raises(UserError, match=r"second was trained on latents of other weights than .*first holds now"):
        train_run(of(first.path), catalogue, second.path)


def test_weights_that_the_other_run_took_are_passed_on(catalogue, tmp_path):
    weights = save(SILENT, tmp_path / "weights")  # its statistics are those of the first run's latents
    first = taken(with_weights(weights), catalogue, tmp_path / "first")
    second = taken(of(first.path, SMALLEST), catalogue, tmp_path / "second")
    assert fingerprint(second) == fingerprint(first)
    same(second.codec(), first.codec())
    assert second.codec_config() == first.codec_config()


def test_what_has_no_codec_is_said_before_a_folder_is_made(first, catalogue, tmp_path):
    def refused(path, match):
        with pytest.raises(UserError, match=match):
            train_run(of(path), catalogue, tmp_path / "second")
        assert not (tmp_path / "second").exists()

    refused("", r"no path: give .* codec\.codec\.path")
    refused(tmp_path / "nowhere", "nowhere is not a run")
    first.parameters.unlink()
    refused(first.path, r"codec\.safetensors is not there: train the run first")
    refused(Folder.claim(tmp_path / "third", of(first.path), catalogue).path, r"codec\.json is not there: train")
    pixels = Folder.claim(tmp_path / "pixels", replace(RUN, codec=CodecStage(PixelCodecConfig())), catalogue)
    refused(pixels.path, "is a run on pixels and has no codec")


def test_a_recipes_text_names_it():
    run = override(RUN, ["codec.codec=TrainedConfig", "codec.codec.path=runs/first"])
    assert run.codec.codec == run.codec.taken == TrainedConfig("runs/first")
    assert run.codec.learned is None
    assert "codec.codec.path: 'runs/first'\n" in run.text()


@pytest.mark.slow
def test_a_denoiser_on_the_latents_of_another_run(first, catalogue, tmp_path):
    second = train_run(of(first.path, SMALLEST), catalogue, tmp_path / "second")
    shutil.rmtree(first.path)
    assert train_run(second.run(), catalogue, second.path) == second
    drawn = Generator.load(second.path).draw([""], ids=np.arange(1), bucket=CLIP)
    assert drawn.shape == (1, 5, 16, 16, 3)
