"""Runs whose codec is another project's: its weights taken as they are, or its architecture trained from scratch."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from diorama.codec import Codec, PixelCodecConfig, TokenCodecConfig, encode
from diorama.core import UserError, override, release
from diorama.core.module import paths
from diorama.diffusion import DenoiserConfig
from diorama.interop.diffusers import (
    AutoencoderKLConfig,
    AutoencoderKLWanConfig,
    PretrainedConfig,
    export_kl,
    pretrained,
)
from diorama.net import TransformerConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Folder, Generator
from diorama.run.diagnose import diagnose
from diorama.run.latents import fingerprint
from diorama.run.train import clips, latents, train_codec, train_run
from diorama.sample import Euler
from diorama.train import Train, read_log
from tests.cli.test_main import run as command
from tests.interop.diffusers.cases import dc, kl, save
from tests.interop.diffusers.test_wan import SMALL as WAN
from tests.interop.diffusers.video_record import asked, weight
from tests.net.tiny import made
from tests.run.conftest import RUN

KL = kl((4, 8), norm_num_groups=2, latent_channels=2, scaling_factor=0.5, shift_factor=0.25)
SILENT = dc("RR", (4, 8), latent_channels=2, encoder_layers_per_block=[1, 1], decoder_layers_per_block=[1, 1])
CLIP = Bucket(frames=5, height=16, width=16, batch=4)
SMALLEST = replace(
    RUN,
    denoiser=DenoiserStage(
        DenoiserConfig(TransformerConfig(width=8, depth=1, heads=2, mixing=False, previous=False), {}),
        buckets=(CLIP,),
        train=Train(examples=4),
    ),
    sampling=replace(RUN.sampling, solver=Euler(), batch=2),
)


def with_weights(path):
    return replace(SMALLEST, codec=CodecStage(PretrainedConfig(str(path))))


@pytest.fixture
def weights(tmp_path):
    return save(KL, tmp_path / "weights")


def same(a, b):
    left, right = paths(a), paths(b)
    assert left.keys() == right.keys()
    for path, array in left.items():
        np.testing.assert_array_equal(array, right[path], err_msg=path)


def taken(run, catalogue, path):
    """A run's folder as after codec training."""
    folder = Folder.claim(path, run, catalogue)
    train_codec(run, catalogue, folder)
    return folder


def test_a_run_has_a_copy_of_the_weights_that_it_takes(weights, catalogue, tmp_path):
    run, codec = with_weights(weights), pretrained(weights)
    folder = taken(run, catalogue, tmp_path / "run")
    moved = weights.rename(tmp_path / "moved")
    same(folder.codec(), codec)
    assert folder.codec().config == codec.config == folder.codec_config()
    train_codec(run, catalogue, folder)  # nothing is left to do
    assert latents(run, catalogue, folder, CLIP)[0]["media"].shape == (5, 8, 8, 2)
    [cache] = (catalogue.path / "latents").glob(f"{fingerprint(folder)}/5x16x16.*")
    before = {path: path.stat().st_mtime_ns for path in cache.glob("*/*")}
    again = taken(with_weights(moved), catalogue, tmp_path / "again")  # the same weights, wherever they lie
    latents(again.run(), catalogue, again, CLIP)
    assert {path: path.stat().st_mtime_ns for path in cache.glob("*/*")} == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "causal video"])
def test_a_denoiser_on_the_latents_of_others_weights(kind, weights, catalogue, tmp_path):
    if kind == "causal video":
        shapes = asked(AutoencoderKLWanConfig.from_dict(WAN))
        save(WAN, weights, {name: np.asarray(weight(name, shape)) for name, shape in shapes.items()})
    folder = train_run(with_weights(weights), catalogue, tmp_path / "run")
    weights.rename(tmp_path / "moved")
    assert train_run(folder.run(), catalogue, folder.path) == folder
    drawn = Generator.load(folder.path).draw([""], ids=np.arange(1), bucket=CLIP)
    assert drawn.shape == (1, 5, 16, 16, 3)
    [seen] = diagnose(folder)
    assert seen.about["latents"] == {"image": [5, 8, 8, 2], "causal video": [2, 4, 4, 4]}[kind]


def test_weights_that_changed_are_seen(weights, catalogue, tmp_path):
    folder = taken(with_weights(weights), catalogue, tmp_path / "run")
    before = fingerprint(folder)
    save(KL | {"scaling_factor": 0.7}, weights)
    with pytest.raises(UserError, match=r"run was trained on latents of other weights than .*weights holds now"):
        train_run(with_weights(weights), catalogue, folder.path)
    assert fingerprint(taken(with_weights(weights), catalogue, tmp_path / "other")) != before
    assert folder.note()["hash"] != PretrainedConfig(str(weights)).note()["hash"]


def test_what_a_file_does_not_tell_is_measured(catalogue, tmp_path):
    path = save(SILENT, tmp_path / "dc")
    assert not pretrained(path).told
    frames = {"scaling_factor": 1.0, "shift_factor": None, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
    assert all(pretrained(save(options, tmp_path / "kl")).told for options in (KL, KL | frames))
    folder = taken(with_weights(path), catalogue, tmp_path / "run")
    source = clips(catalogue, CLIP, "train")
    media = np.stack([source[i]["media"] for i in range(len(source))]) / np.float32(127.5) - 1
    plain = encode(pretrained(path), media)
    np.testing.assert_allclose(folder.codec().mean[0], plain.mean((0, 1, 2, 3)), atol=1e-4)
    scaled = encode(folder.codec(), media)
    np.testing.assert_allclose(scaled.mean((0, 1, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std((0, 1, 2, 3)), 1, atol=1e-4)


def exported(folder, path):
    """That the folder's codec, written for diffusers, is read back bit for bit."""
    codec, written = folder.codec(), pretrained(export_kl(folder.codec(), path))
    same(written.autoencoder, codec.autoencoder)
    np.testing.assert_array_equal(written.mean[0], codec.mean)
    np.testing.assert_array_equal(written.deviation[0], codec.deviation)


def test_an_architecture_of_diffusers_is_a_runs_own(catalogue, tmp_path, capsys):
    config = AutoencoderKLConfig.from_dict(KL)
    folder = Folder.claim(tmp_path / "run", replace(SMALLEST, codec=CodecStage(config, (CLIP,), Train(8))), catalogue)
    assert folder.run().codec.learned == config
    rng = np.random.default_rng(0)
    mean, deviation = (jnp.asarray(x, jnp.float32) for x in (rng.normal(size=2), rng.uniform(0.1, 9, 2)))
    release.save(Codec(made(config.init), mean, deviation, config), folder.path / "codec.safetensors")
    assert folder.codec().config == config
    exported(folder, tmp_path / "exported")
    code, out, _ = command(capsys, "codec", "export", folder.path, "--out", tmp_path / "vae")
    assert (code, out) == (0, f"codec: {tmp_path / 'vae'}\n")
    same(pretrained(tmp_path / "vae"), pretrained(tmp_path / "exported"))


@pytest.mark.slow
def test_an_architecture_of_diffusers_is_trained(catalogue, tmp_path):
    config = AutoencoderKLConfig.from_dict(kl((4,), norm_num_groups=2, mid_block_add_attention=False))
    folder = taken(replace(SMALLEST, codec=CodecStage(config, (CLIP,), Train(examples=8))), catalogue, tmp_path / "run")
    [last] = read_log(folder.path / "codec")
    assert {"mse", "psnr", "kl"} <= set(last)
    exported(folder, tmp_path / "exported")


def test_what_cannot_be_trained_is_said_before_a_folder_is_made(weights, catalogue, tmp_path):
    def refused(codec, match):
        with pytest.raises(UserError, match=match):
            train_run(replace(SMALLEST, codec=codec), catalogue, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    refused(CodecStage(PretrainedConfig(str(tmp_path / "nowhere"))), "nowhere is not there: give a folder of diffusers")
    refused(CodecStage(PretrainedConfig()), r"no path: give .* codec\.codec\.path")
    square = CodecStage(TokenCodecConfig(width=32, depth=1), (CLIP,), Train(8))
    refused(square, "takes pictures of 32 x 32, not 16 x 16")
    refused(CodecStage(PixelCodecConfig(channels=1)), "made for media of other than three channels")
    rgba = save(kl((4, 8), norm_num_groups=2, in_channels=4, out_channels=4), tmp_path / "rgba")
    refused(CodecStage(PretrainedConfig(str(rgba))), "cannot code RGB clips of 5x16x16")
    frames = {"scaling_factor": 1.0, "shift_factor": None, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}
    told = save(KL | frames, tmp_path / "told")
    refused(CodecStage(PretrainedConfig(str(told))), "statistics of 2 latent frames, not of 5")


def test_a_recipes_text_names_it():
    run = override(RUN, ["codec.codec=PretrainedConfig", "codec.codec.path=weights/sd vae"])
    assert run.codec.codec == PretrainedConfig("weights/sd vae")
    assert run.codec.learned is None
    assert "codec.codec.path: 'weights/sd vae'\n" in run.text()
    with pytest.raises(UserError, match=r"give codec\.train and codec\.buckets"):
        replace(RUN, codec=CodecStage(AutoencoderKLConfig()))
