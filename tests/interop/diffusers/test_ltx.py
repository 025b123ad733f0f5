"""`AutoencoderKLLTXVideo`: what diffusers computes, its noise included, and what its parts promise."""

from functools import cache
from itertools import count

import jax
import numpy as np
import pytest

from diorama.core import UserError
from diorama.interop.diffusers.pretrained import Pretrained
from diorama.interop.diffusers.video_ltx import DOWN, DOWN_095, AutoencoderKLLTXVideoConfig
from tests.interop.diffusers.video_record import (
    Named,
    as_recorded,
    asked,
    changed,
    clip,
    codes,
    decode,
    digest,
    encode,
    load,
    parameters,
    read_back,
    reference,
    their_decode,
    their_encode,
)

OLD = {
    "_class_name": "AutoencoderKLLTXVideo", "latent_channels": 4, "patch_size": 2,
    "block_out_channels": [8, 12], "down_block_types": [DOWN] * 2, "layers_per_block": [1, 1, 1],
    "spatio_temporal_scaling": [True, False], "downsample_type": ["conv"] * 2,
    "decoder_block_out_channels": [8, 12], "decoder_layers_per_block": [1, 1, 1],
    "decoder_spatio_temporal_scaling": [True, False], "decoder_inject_noise": [False] * 3,
    "upsample_residual": [False] * 2, "upsample_factor": [1] * 2,
}  # fmt: skip
TIMED = OLD | {
    "decoder_block_out_channels": [16], "decoder_layers_per_block": [1, 1], "decoder_spatio_temporal_scaling": [True],
    "upsample_residual": [True], "upsample_factor": [2], "timestep_conditioning": True,
}  # fmt: skip
NEW = TIMED | {
    "block_out_channels": [8, 16, 16, 32], "down_block_types": [DOWN_095] * 3, "layers_per_block": [1, 1, 1, 1],
    "spatio_temporal_scaling": [True, True, True], "downsample_type": ["spatial", "temporal", "spatiotemporal"],
    "decoder_block_out_channels": [16, 32], "decoder_layers_per_block": [1, 2, 1],
    "decoder_spatio_temporal_scaling": [True, True], "upsample_residual": [True, False], "upsample_factor": [2, 2],
    "scaling_factor": 0.5,
}  # fmt: skip
# Options, and the numbers of frames that are recorded; those with none are compared with diffusers at hand only.
FORMS = {
    "0.9.0": (OLD, (1, 5)),
    "0.9.1": (TIMED | {"decoder_inject_noise": [True, True]}, (5,)),
    "0.9.5": (NEW, (1, 9)),
    "0.9.0, causal both ways": (OLD | {"encoder_causal": True, "decoder_causal": True}, ()),
    "0.9.0, causal no way": (OLD | {"encoder_causal": False}, ()),
    "0.9.5, plain convolutions": (
        NEW | {"block_out_channels": [8] * 4, "downsample_type": ["conv"] * 3,
               "spatio_temporal_scaling": [True, False, True]}, (),
    ),
}  # fmt: skip
_PUBLISHED_091 = {
    "_class_name": "AutoencoderKLLTXVideo", "decoder_block_out_channels": [256, 512, 1024],
    "decoder_layers_per_block": [5, 6, 7, 8], "decoder_spatio_temporal_scaling": [True] * 3,
    "decoder_inject_noise": [True, True, True, False], "upsample_residual": [True] * 3, "upsample_factor": [2] * 3,
    "timestep_conditioning": True,
}  # fmt: skip
PUBLISHED = {
    "0.9.0": {"_class_name": "AutoencoderKLLTXVideo"},
    "0.9.1": _PUBLISHED_091,
    "0.9.5": _PUBLISHED_091 | {
        "block_out_channels": [128, 256, 512, 1024, 2048], "down_block_types": [DOWN_095] * 4,
        "layers_per_block": [4, 6, 6, 2, 2], "spatio_temporal_scaling": [True] * 4,
        "downsample_type": ["spatial", "temporal", "spatiotemporal", "spatiotemporal"],
        "decoder_layers_per_block": [5, 5, 5, 5], "decoder_inject_noise": [False] * 4,
        "spatial_compression_ratio": 32, "temporal_compression_ratio": 8,
    },
}  # fmt: skip
KEY = jax.random.key(5)


def config(form):
    return AutoencoderKLLTXVideoConfig.from_dict(FORMS[form][0])


@cache
def built(form):
    return config(form).build(Named())


def times(form):
    """What the decoder is told beside latents: nothing, or how noisy each example is.

    Nearer to 1 the angles of its Fourier features are so large that the last bit of a frequency, which differs between
    exponential functions, moves outputs by 1e-5.
    """
    return [np.float32([0.05, 0.25])] if config(form).timestep_conditioning else []


def ours_decoded(module, form, frames):
    key = [KEY] if any(config(form).decoder_inject_noise) else []
    return decode(module, codes(config(form), frames), *times(form), *key)


def theirs_encoded(model, form, frames):
    return their_encode(model, clip(config(form), frames))


def theirs_decoded(model, form, frames):
    """With the noise that our decoder draws: image after image from `KEY`."""
    import torch

    numbers = count()

    def drawn(shape, **_):
        return torch.tensor(np.asarray(jax.random.normal(jax.random.fold_in(KEY, next(numbers)), tuple(shape))))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", drawn)
        return their_decode(model, codes(config(form), frames), *times(form))


@pytest.mark.parametrize(("form", "frames"), [(form, t) for form, (_, ts) in FORMS.items() for t in ts])
def test_numbers_recorded_of_diffusers(form, frames):
    kept = load("ltx")["forms"][form]
    latents, media = encode(built(form), clip(config(form), frames)), ours_decoded(built(form), form, frames)
    as_recorded(kept, frames, latents, media)


def names(config):
    """Of a file: the autoencoder's, and the statistics of latents that the codec takes."""
    return asked(config) | dict.fromkeys(("latents_mean", "latents_std"), (config.channels,))


@pytest.mark.parametrize("form", FORMS)
def test_names_recorded_of_diffusers(form):
    assert digest(names(config(form))) == load("ltx")["forms"][form]["names"]


@pytest.mark.parametrize("form", PUBLISHED)
def test_names_of_published_sizes(form):
    c = AutoencoderKLLTXVideoConfig.from_dict(PUBLISHED[form])
    assert (c.spatial, c.temporal, c.channels) == (32, 8, 128)
    assert digest(names(c)) == load("ltx")["published"][form]


@pytest.mark.parametrize("form", FORMS)
def test_diffusers_itself(form, tmp_path):
    pytest.importorskip("diffusers", reason="parity at hand needs diffusers and torch; recorded numbers do not")
    model, options = reference(FORMS[form][0]), FORMS[form][0]
    assert names(config(form)) == parameters(options)
    told, tensors = read_back(AutoencoderKLLTXVideoConfig, model, tmp_path)
    ours = told.build(tensors)
    own = {name: tensors.take(name, (told.channels,)) for name in ("latents_mean", "latents_std")}
    tensors.finish()
    codec = Pretrained.of(ours, told, own)
    np.testing.assert_allclose(codec.mean[0], model.latents_mean, rtol=1e-6)
    np.testing.assert_allclose(codec.deviation[0], model.latents_std / told.scaling_factor, rtol=1e-6)
    for frames in (1, 1 + told.temporal, 1 + 2 * told.temporal):
        latents, media = encode(ours, clip(config(form), frames)), ours_decoded(ours, form, frames)
        np.testing.assert_allclose(latents, theirs_encoded(model, form, frames), rtol=0, atol=1e-5)
        np.testing.assert_allclose(media, theirs_decoded(model, form, frames), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("form", "frames"), [("0.9.0", 5), ("0.9.5", 9)])
def test_the_encoder_is_causal_and_the_decoder_is_not(form, frames):
    t, media, latents = config(form).temporal, clip(config(form), frames), codes(config(form), frames)
    before = encode(built(form), media), decode(built(form), latents, *times(form))
    after = encode(built(form), changed(media, -t)), decode(built(form), changed(latents, -1), *times(form))
    np.testing.assert_array_equal(before[0][:, :-1], after[0][:, :-1])
    assert np.abs(before[0][:, -1] - after[0][:, -1]).max() > 0.1
    assert np.abs(before[1][:, :-t] - after[1][:, :-t]).max() > 0.01


@pytest.mark.parametrize(("form", "frames"), [("0.9.0", 5), ("0.9.5", 9)])
def test_the_first_frame_is_encoded_as_if_alone(form, frames):
    media = clip(config(form), frames)
    alone, whole = encode(built(form), media[:, :1]), encode(built(form), media)
    np.testing.assert_allclose(alone, whole[:, :1], rtol=0, atol=1e-5)


def test_each_example_has_its_own_timestep():
    latents = codes(config("0.9.5"), 9)
    both = decode(built("0.9.5"), latents, np.float32([0.05, 0.25]))
    swapped = decode(built("0.9.5"), latents[::-1], np.float32([0.25, 0.05]))
    np.testing.assert_allclose(swapped[::-1], both, rtol=0, atol=1e-5)
    assert np.abs(decode(built("0.9.5"), latents, np.float32([0.05, 0.05]))[1] - both[1]).max() > 0.05


def test_noise_is_drawn_from_the_key_alone():
    latents, time = codes(config("0.9.1"), 5), times("0.9.1")[0]
    with_key = decode(built("0.9.1"), latents, time, KEY)
    np.testing.assert_array_equal(with_key, decode(built("0.9.1"), latents, time, KEY))
    assert np.abs(with_key - decode(built("0.9.1"), latents, time, jax.random.key(6))).max() > 0.05


def test_what_the_decoder_has_no_use_for_is_refused():
    latents = codes(config("0.9.0"), 1)
    with pytest.raises(UserError, match="timestep"):
        built("0.9.0").decode(latents, 0.0)
    with pytest.raises(UserError, match="key"):
        built("0.9.5").decode(latents, 0.0, KEY)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"upsample_type": ["spatial"]}, "upsample_type"),
        ({"patch_size": 2.5}, "patch_size"),
        ({"patch_size_t": 2}, "patch_size_t"),
        ({"down_block_types": [DOWN, "LTX2VideoDownBlock3D"]}, "LTX2VideoDownBlock3D"),
        ({"downsample_type": ["conv", "diagonal"]}, "diagonal"),
        ({"layers_per_block": [1, 1]}, "layers_per_block"),
        ({"decoder_spatio_temporal_scaling": [True, True]}, "the decoder 8 times larger and 4 times longer"),
    ],
)
def test_what_is_not_known_is_refused(change, told):
    with pytest.raises(UserError, match=told):
        AutoencoderKLLTXVideoConfig.from_dict(OLD | change)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (OLD | {"timestep_conditioning": True}, "conv_in goes from a width of 12 to 8"),
        (
            NEW | {"block_out_channels": [8, 12, 16, 32]},
            "down_blocks.0.downsamplers.0 cannot go from a width of 8 to 12",
        ),
        (
            NEW | {"downsample_type": ["spatial", "temporal", "conv"]},
            "down_blocks.2 cannot go from a width of 16 to 32",
        ),
    ],
)
def test_widths_that_diffusers_cannot_run_are_refused(options, told):
    with pytest.raises(UserError, match=told):
        asked(AutoencoderKLLTXVideoConfig.from_dict(options))


@pytest.mark.parametrize("shape", [(1, 4, 4, 4, 3), (1, 5, 6, 4, 3), (1, 5, 4, 4, 4)])
def test_media_that_do_not_fit_are_refused(shape):
    with pytest.raises(UserError, match=r"1 \+ k \* 2 frames"):
        built("0.9.0").encode(np.zeros(shape, np.float32))
