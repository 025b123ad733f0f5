"""Spectra of data and of a run: of known data known ones, of a run those of what it draws, and measured once."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from diorama.codec import PixelCodecConfig
from diorama.core import UserError, release
from diorama.core.files import write_text
from diorama.diffusion import DenoiserConfig
from diorama.media import write_mp4, write_png
from diorama.net import TransformerConfig
from diorama.process import RectifiedFlow, rapsd
from diorama.process.spectrum import drowning
from diorama.run import Bucket, CodecStage, Folder, Generator
from diorama.run.examples import clips, some
from diorama.run.spectrum import CLIPS, DRAWN, FRAMES, LEAST, spectra_of_data, spectra_of_run
from diorama.sample.plan import Restart
from tests.net.tiny import made
from tests.run.conftest import RUN


def noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """White noise of a standard deviation of 30 grey levels."""
    return np.clip(np.rint(128 + 30 * rng.normal(size=(*shape, 3))), 0, 255).astype(np.uint8)


def test_of_pictures_and_videos_in_a_folder(tmp_path, rng):
    for i in range(9):
        write_png(tmp_path / f"{i}.png", noise(rng, 32, 40 + i))
    write_png(tmp_path / "small.png", noise(rng, 20, 50))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    write_mp4(tmp_path / "clip.mp4", noise(rng, 70, 16, 16), 8.0, lossless=True)
    still, video = spectra_of_data(tmp_path)
    assert still.about == {"name": tmp_path.name, "n": 9, "left_out": 1, "shape": [1, 32, 32]}
    np.testing.assert_allclose(still.arrays["space_data"].mean(0), (30 / 127.5) ** 2, rtol=0.2)
    assert video.about["shape"] == [FRAMES, 16, 16]
    np.testing.assert_allclose(video.arrays["time_data"].mean(), (30 / 127.5) ** 2, rtol=0.02)
    assert video.arrays["time_data"].shape == (1, FRAMES // 2)


def test_of_a_file_and_of_a_catalogue(tmp_path, rng, catalogue):
    write_png(tmp_path / "one.png", noise(rng, 24, 40))
    (one,) = spectra_of_data(tmp_path / "one.png")
    assert one.about["shape"] == [1, 24, 24]
    assert [seen.about["n"] for seen in spectra_of_data(catalogue.path)] == [12, 24]


def test_what_holds_no_media_says_so(tmp_path, rng):
    with pytest.raises(UserError, match="holds no picture"):
        spectra_of_data(tmp_path)
    write_png(tmp_path / "one.png", noise(rng, 4, 40))
    with pytest.raises(UserError, match="4 pixels a side"):
        spectra_of_data(tmp_path)


@pytest.fixture(scope="module")
def seen(folder, tmp_path_factory):
    """The tiny run, copied, and what is seen of it."""
    path = tmp_path_factory.mktemp("spectrum") / "tiny"
    shutil.copytree(folder.path, path, ignore=shutil.ignore_patterns("evaluation"))
    return Folder(path), spectra_of_run(Folder(path))


def test_of_a_run(seen):
    still, video = seen[1]
    assert (still.about["bucket"], video.about["bucket"]) == ("1x32x32", "9x32x32")
    a = video.arrays
    assert a["space_data"].shape == a["space_error"].shape == (video.about["n"], 16)
    assert a["time_drawn"].shape == (DRAWN, 4)
    assert a["way_latents"].shape == a["unguided_latents"].shape == (3, 4)  # two steps and what came of them
    assert a["way_drawn"].shape == (3, 16)
    assert a["way"].shape == (8, 3, 32, 32, 3)
    np.testing.assert_allclose(a["way_drawn"][-1], a["space_drawn"].mean(0), rtol=1e-4)
    assert np.abs(a["unguided_latents"] / a["way_latents"] - 1).max() > 0.01
    assert not any(name.startswith("time_") for name in still.arrays)
    for one in (still, video):
        assert all(np.isfinite(value).all() for name, value in one.arrays.items() if name != "logsnr")
        power = one.arrays["space_latents"].mean(0)
        np.testing.assert_allclose(one.arrays["drowns"], drowning(RectifiedFlow(), power), rtol=1e-5)
    assert {alarm["period"] for alarm in video.about["alarms"] if alarm["of"] == "samples"} == {2, 4, 8}
    assert {alarm["period"] for alarm in video.about["alarms"] if alarm["of"] == "reconstructions"} == {2, 4}
    assert still.about["alarms"] == [], "of twelve stills nothing can be told"


def test_samples_are_those_of_the_generator(seen):
    folder, (still, _) = seen
    prompts = still.about["prompts"]
    generator, (_, bucket) = Generator.load(folder.path), RUN.denoiser.buckets
    labels = _labels(folder, bucket, len(prompts))
    drawn = generator.draw(prompts, labels, ids=np.arange(len(prompts)), bucket=bucket)
    power = np.asarray(rapsd(drawn / np.float32(127.5) - 1).mean((1, 3)))
    np.testing.assert_allclose(still.arrays["space_drawn"][: len(prompts)], power, rtol=0.05, atol=1e-4)


def _labels(folder: Folder, bucket: Bucket, n: int) -> np.ndarray:
    held = clips(folder.catalogue(), bucket, "test")
    source = held if held and len(held) >= LEAST else clips(folder.catalogue(), bucket, "train")
    return source.labels[some(len(source), CLIPS[1], RUN.seed)[:n]]


def test_measured_once(seen):
    folder, found = seen
    path = folder.path / "evaluation" / "spectrum.npz"
    os.utime(path, (0, 0))
    again = spectra_of_run(folder)
    assert path.stat().st_mtime == 0
    for one, two in zip(again, found, strict=True):
        assert one.about == two.about
        assert one.arrays.keys() == two.arrays.keys()


def test_a_run_on_pixels(catalogue, tmp_path):
    config = DenoiserConfig(TransformerConfig(width=16, depth=1, heads=2, patch=(1, 4, 4)), {})
    still = (Bucket(frames=1, height=16, width=16, kind="any", batch=4),)
    stage = replace(RUN.denoiser, denoiser=config, buckets=still)
    sampling = replace(RUN.sampling, restart=Restart(0.4, 0.8, times=1, steps=1))
    run = replace(RUN, codec=CodecStage(PixelCodecConfig()), denoiser=stage, sampling=sampling)
    folder = Folder.claim(tmp_path / "pixels", run, catalogue)
    release.save(made(lambda key: config.init(key, 3)), folder.path / "denoiser.safetensors")
    (seen,) = spectra_of_run(folder)
    assert "space_again" not in seen.arrays
    assert "unguided_drawn" not in seen.arrays, "there is no condition to lead away from"
    np.testing.assert_allclose(seen.arrays["space_latents"], seen.arrays["space_data"], rtol=1e-6)
    np.testing.assert_allclose(seen.arrays["taus"], [1, 0.5, 0.8, 0.5, 0])  # the run's own way, restarts and all
    assert len(seen.arrays["way_drawn"]) == 5
    assert {(alarm["of"], alarm["period"]) for alarm in seen.about["alarms"]} == {("samples", 2), ("samples", 4)}


def test_a_run_that_is_not_trained_says_so(folder, tmp_path):
    for path in (folder.config, folder.manifest):
        write_text(tmp_path / path.name, path.read_text())
    with pytest.raises(UserError):
        spectra_of_run(Folder.open(tmp_path))
