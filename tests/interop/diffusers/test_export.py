"""What is written for diffusers is what is read again, and what diffusers loads."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from diorama.codec import ConvCodecConfig
from diorama.core import UserError
from diorama.core.module import cast, from_paths, paths
from diorama.interop.diffusers import AutoencoderKLConfig, Pretrained, export_kl, pretrained
from tests.interop.diffusers.cases import CASES, decode, encode, kl, media_of, save, shapes
from tests.net.tiny import made as stirred

OPTIONS = kl((4, 8), norm_num_groups=2, latent_channels=2, scaling_factor=0.3, shift_factor=0.1)
CONFIG = AutoencoderKLConfig.from_dict(OPTIONS)


@pytest.fixture(scope="module")
def model():
    return stirred(CONFIG.init)


def same(a, b):
    left, right = paths(a), paths(b)
    assert left.keys() == right.keys()
    for path, array in left.items():
        np.testing.assert_array_equal(array, right[path], err_msg=path)


@pytest.mark.parametrize("name", ["sd", "sdxl_statistics", "flux", "rgba_without_attention"])
def test_a_file_read_and_written_is_the_same_file(name, tmp_path):
    read = save(CASES[name], tmp_path / "read")
    codec = pretrained(read)
    written = export_kl(codec, tmp_path / "written")
    before, after = (load_file(folder / "diffusion_pytorch_model.safetensors") for folder in (read, written))
    assert before.keys() == after.keys()
    for array in before:
        np.testing.assert_array_equal(before[array], after[array])
    again = pretrained(written)
    same(codec, again)
    assert again.config == codec.config
    told = json.loads((written / "config.json").read_text())
    assert told | CASES[name] == told


def test_a_new_one_is_read_again_bit_for_bit(model, tmp_path):
    same(pretrained(export_kl(model, tmp_path / "a")), Pretrained.of(model, CONFIG))
    half = cast(model, jnp.bfloat16)
    same(pretrained(export_kl(half, tmp_path / "b")).autoencoder, cast(half, jnp.float32))


def test_measured_statistics_are_written(model, tmp_path):
    codec = Pretrained.of(model, CONFIG)
    latents = np.random.default_rng(0).normal(3, 2, (8, 1, 4, 4, 2)).astype(np.float32)
    measured = codec.measured([latents[:5], latents[5:]])
    plain = latents / 0.3 + 0.1  # as diffusers undoes scaling and shift
    np.testing.assert_allclose(measured.mean, plain.mean((0, 1, 2, 3))[None], rtol=1e-5)
    np.testing.assert_allclose(measured.deviation, plain.std((0, 1, 2, 3))[None], rtol=1e-5)
    written = export_kl(measured, tmp_path / "a")
    again = pretrained(written)
    same(again, measured)
    told = json.loads((written / "config.json").read_text())
    assert (told["scaling_factor"], told["shift_factor"], len(told["latents_mean"])) == (1.0, None, 2)
    export_kl(again, written)  # an earlier export is replaced
    same(pretrained(written), measured)


def test_what_cannot_be_written_is_said(model, tmp_path):
    ours = jax.eval_shape(ConvCodecConfig(widths=(8, 8)).init, jax.random.key(0))
    with pytest.raises(UserError, match="Autoencoder is not what diffusers calls AutoencoderKL"):
        export_kl(ours, tmp_path / "a")
    with pytest.raises(UserError, match="AutoencoderDC is not"):
        export_kl(pretrained(save(CASES["dc_without_shortcuts"], tmp_path / "dc")), tmp_path / "a")
    arrays = paths(model)
    broken = from_paths(model, arrays | {"encoder.conv_in.weight": np.full((3, 3, 3, 4), np.nan, np.float32)})
    with pytest.raises(UserError, match=r"not finite, in encoder\.conv_in\.weight"):
        export_kl(broken, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    with pytest.raises(UserError, match="holds other things"):
        export_kl(model, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "kept"


@pytest.mark.parametrize("options", [OPTIONS, CASES["sdxl_statistics"], CASES["flux"]], ids=["new", "sdxl", "flux"])
def test_diffusers_loads_it(options, tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="loading by diffusers needs it and torch")
    import torch

    config = AutoencoderKLConfig.from_dict(options)
    model = stirred(config.init)
    codec = Pretrained.of(model, config)
    folder = export_kl(codec, tmp_path / "a")
    theirs, report = diffusers.AutoencoderKL.from_pretrained(folder, output_loading_info=True)
    assert {kind: list(names) for kind, names in report.items() if len(names)} == {}
    assert shapes(options) == {name: tuple(x.shape) for name, x in theirs.state_dict().items()}
    media = media_of(options)
    frames = torch.from_numpy(media.reshape(-1, *media.shape[2:]).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        mean = theirs.encode(frames).latent_dist.mean
        back = theirs.decode(mean).sample
    ours = encode(model, media)
    again = decode(model, ours)
    for own, other in ((ours, mean), (again, back)):
        other = other.numpy().transpose(0, 2, 3, 1).reshape(own.shape)
        np.testing.assert_allclose(own, other, rtol=0, atol=1e-5)
    assert theirs.config.scaling_factor == config.scaling_factor
