"""Folders and files of diffusers as codecs of ours, and what is said of those that are not."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.flax import save_file as save_flax
from safetensors.numpy import save_file

from diorama.codec import decode, encode, encode_chunks
from diorama.core import UserError
from diorama.core.module import Module, paths
from diorama.interop.diffusers import AutoencoderKLConfig, Pretrained, pretrained
from tests.interop.diffusers.cases import kl, made, save, shapes

OPTIONS = kl((4, 8), norm_num_groups=2, latent_channels=2, scaling_factor=0.5, shift_factor=0.25)
CONFIG = AutoencoderKLConfig.from_dict(OPTIONS)
WEIGHTS = "diffusion_pytorch_model.safetensors"
MEDIA = np.random.default_rng(0).uniform(-1, 1, (2, 1, 7, 5, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(OPTIONS, tmp_path_factory.mktemp("codec"))


@pytest.fixture(scope="module")
def codec(folder):
    return pretrained(folder)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def same(a, b):
    for path, array in paths(a).items():
        np.testing.assert_array_equal(array, paths(b)[path], err_msg=path)


class Same(Module):
    """Latents are every other pixel; no channel is changed."""

    def encode(self, media):
        return media[:, :, ::2, ::2]

    def decode(self, latents):
        return jnp.repeat(jnp.repeat(latents, 2, axis=2), 2, axis=3)


def test_it_is_a_codec(codec):
    assert codec.config.channels == 2
    assert codec.latent_shape(3, 7, 5) == (3, 4, 3, 2)
    latents = encode(codec, MEDIA)
    assert latents.shape == (2, *codec.latent_shape(1, 7, 5))
    media = decode(codec, 50 * latents)
    assert media.shape == (2, 1, 8, 6, 3)
    assert float(jnp.abs(media).max()) == 1  # clipped
    whole = np.pad(MEDIA, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
    np.testing.assert_allclose(latents, (codec.autoencoder.encode(whole) - 0.25) * 0.5, atol=1e-5)


def test_odd_sizes_repeat_their_edges():
    latents = Pretrained.of(Same(), CONFIG, {"scaling_factor": 1, "shift_factor": None}).encode(MEDIA[..., :2])
    np.testing.assert_array_equal(latents[:, :, 3, 2], MEDIA[:, :, 6, 4, :2])
    assert latents.shape == (2, 1, 4, 3, 2)


def test_latents_are_normalised_as_diffusers_does(codec):
    np.testing.assert_array_equal(codec.mean, [[0.25, 0.25]])
    np.testing.assert_array_equal(codec.deviation, [[2, 2]])
    same = Pretrained.of(Same(), CONFIG)
    media = MEDIA[:, :, :6, :4, :2]
    np.testing.assert_allclose(same.encode(media), (media[:, :, ::2, ::2] - 0.25) * 0.5, atol=1e-6)
    np.testing.assert_allclose(same.decode(same.encode(media))[:, :, ::2, ::2], media[:, :, ::2, ::2], atol=1e-6)
    told = {"scaling_factor": 0.5, "shift_factor": None, "latents_mean": [1.0, 2.0], "latents_std": [4.0, 8.0]}
    expected = (media[:, :, ::2, ::2] - np.array([1, 2])) * 0.5 / np.array([4, 8])
    np.testing.assert_allclose(Pretrained.of(Same(), CONFIG, told).encode(media), expected, atol=1e-6)


def test_statistics_of_every_latent_frame():
    told = {"scaling_factor": 1.0, "shift_factor": None, "latents_std": [1.0] * 4}
    told["latents_mean"] = [1.0, 10.0, 2.0, 20.0]  # a channel: its two frames
    codec = Pretrained.of(Same(), CONFIG, told)
    media = np.zeros((1, 2, 2, 2, 2), np.float32)
    np.testing.assert_array_equal(codec.encode(media)[0, :, 0, 0], [[-1, -2], [-10, -20]])
    np.testing.assert_array_equal(codec.encode(media[:, :1])[0, :, 0, 0], [[-1, -2]])
    latents = 0.01 + codec.encode(media)
    np.testing.assert_allclose(codec.decode(latents), 0.01, atol=1e-5)
    with pytest.raises(UserError, match="2 latent frames, not of 3"):
        codec.encode(np.zeros((1, 3, 2, 2, 2), np.float32))


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"latents_mean": [1.0, 2.0, 3.0]}, "latents_mean has 3 numbers for 2"),
        ({"scaling_factor": 0.0}, "positive"),
        ({"latents_std": [1.0, -1.0]}, "positive"),
    ],
)
def test_statistics_that_do_not_fit(told, match):
    with pytest.raises(UserError, match=match):
        Pretrained.of(Same(), CONFIG, told)


def test_where_it_may_lie(folder, codec, tmp_path):
    same(pretrained(folder / WEIGHTS), codec)
    pipeline = tmp_path / "pipeline"
    shutil.copytree(folder, pipeline / "vae")
    (pipeline / "model_index.json").write_text("{}")
    same(pretrained(pipeline), codec)
    (pipeline / "vae" / WEIGHTS).rename(pipeline / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    same(pretrained(str(pipeline)), codec)


def test_several_files_and_their_index(copy, codec):
    arrays = {name: made(name, shape) for name, shape in shapes(OPTIONS).items()}
    names = sorted(arrays)
    (copy / WEIGHTS).unlink()
    parts = {f"diffusion_pytorch_model-0000{i + 1}-of-00003.safetensors": names[i::3] for i in range(3)}
    for file, held in parts.items():
        save_file({name: arrays[name] for name in held}, copy / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in parts.items() for name in held}}
    (copy / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    same(pretrained(copy), codec)
    (copy / next(iter(parts))).unlink()
    with pytest.raises(UserError, match=r"00001-of-00003\.safetensors cannot be read"):
        pretrained(copy)
    (copy / f"{WEIGHTS}.index.json").write_text("[]")
    with pytest.raises(UserError, match="cannot be read as an index"):
        pretrained(copy)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_files_become_float32(copy, codec, dtype):
    arrays = {name: jnp.asarray(made(name, shape), dtype) for name, shape in shapes(OPTIONS).items()}
    save_flax(arrays, copy / WEIGHTS)
    half = paths(pretrained(copy).autoencoder)
    for path, array in paths(codec.autoencoder).items():
        np.testing.assert_array_equal(half[path], np.asarray(array).astype(dtype).astype(np.float32))


def test_arrays_that_do_not_match_are_listed(copy):
    arrays = {name: made(name, shape) for name, shape in shapes(OPTIONS).items()}
    del arrays["quant_conv.bias"]
    arrays["encoder.conv_in.weight"] = np.zeros((4, 1, 3, 3), np.float32)
    arrays["loss.weight"] = np.zeros(3, np.float32)
    save_file(arrays, copy / WEIGHTS)
    with pytest.raises(UserError) as told:
        pretrained(copy)
    assert "1 missing: quant_conv.bias" in str(told.value)
    assert "encoder.conv_in.weight (4, 1, 3, 3) instead of (4, 3, 3, 3)" in str(told.value)
    assert "1 not known: loss.weight" in str(told.value)
    assert WEIGHTS in str(told.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "config.json.*cannot be read"),
        ("{", "config.json.*cannot be read"),
        ("[1]", "holds a list"),
        ("{}", "of class None; known here are AutoencoderKL, AutoencoderDC"),
        ('{"_class_name": "AutoencoderTiny"}', "'AutoencoderTiny'; known"),
        (json.dumps(OPTIONS | {"conv_kind": "x"}), "config.json: AutoencoderKL has options .*: conv_kind"),
    ],
)
def test_configurations_that_are_not_known(copy, text, told):
    (copy / "config.json").unlink()
    if text is not None:
        (copy / "config.json").write_text(text)
    with pytest.raises(UserError, match=told):
        pretrained(copy)


def test_files_that_are_not_there_or_damaged(copy, tmp_path):
    with pytest.raises(UserError, match="is not there"):
        pretrained(tmp_path / "nowhere")
    whole = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        pretrained(copy)
    (copy / WEIGHTS).unlink()
    (copy / "diffusion_pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(UserError, match="pickled weights"):
        pretrained(copy)
    for name in ("a", "b"):
        (copy / f"{name}.safetensors").write_bytes(whole)
    with pytest.raises(UserError, match=r"a\.safetensors, b\.safetensors: name one"):
        pretrained(copy)
    same(pretrained(copy / "a.safetensors"), pretrained(copy / "b.safetensors"))


@pytest.mark.parametrize("size", ["30KB", "1GB"])
def test_what_diffusers_saves_in_parts_is_read(size, codec, tmp_path):
    pytest.importorskip("diffusers", reason="saving by diffusers needs it and torch")
    from tests.interop.diffusers import record

    record.theirs(OPTIONS).save_pretrained(tmp_path, max_shard_size=size)
    assert (tmp_path / f"{WEIGHTS}.index.json").exists() == (size == "30KB")
    same(pretrained(tmp_path), codec)


def test_it_codes_clips_whole(codec):
    with pytest.raises(UserError, match="codes a clip whole"):
        next(encode_chunks(codec, [np.zeros((1, 3, 16, 16, 3), np.float32)]))
