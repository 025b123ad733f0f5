"""`AutoencoderKLCosmos`: what diffusers computes, its wavelets against their formulas, and causality."""

from functools import cache

import numpy as np
import pytest

from diorama.core import UserError
from diorama.interop.diffusers.pretrained import Pretrained
from diorama.interop.diffusers.video_cosmos import AutoencoderKLCosmosConfig
from diorama.interop.diffusers.video_cosmos_blocks import Patches, haar, unhaar
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
    noise,
    parameters,
    read_back,
    reference,
    their_decode,
    their_encode,
)

SMALL = {
    "_class_name": "AutoencoderKLCosmos", "latent_channels": 4, "encoder_block_out_channels": [8, 8, 12, 12],
    "decode_block_out_channels": [8, 8, 12, 12], "attention_resolutions": [8], "resolution": 32, "num_layers": 1,
    "patch_size": 2, "spatial_compression_ratio": 4, "temporal_compression_ratio": 4,
    "latents_mean": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], "latents_std": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
}  # fmt: skip
# Options, and the numbers of frames that are recorded; those with none are compared with diffusers at hand only.
FORMS = {
    "haar": (SMALL, (1, 9)),
    "rearranged, frames less": (
        SMALL | {"patch_type": "rearrange", "temporal_compression_ratio": 2, "attention_resolutions": []}, (3,),
    ),
    "haar of four": (
        SMALL
        | {"patch_size": 4, "spatial_compression_ratio": 8, "temporal_compression_ratio": 8, "resolution": 64}, (),
    ),
    "sides more": (SMALL | {"spatial_compression_ratio": 8, "num_layers": 2}, ()),
}  # fmt: skip
_LATENTS = {"latents_mean": None, "latents_std": None}
PUBLISHED = {
    "8x8x8": {"_class_name": "AutoencoderKLCosmos"} | _LATENTS,
    "4x8x8": {"_class_name": "AutoencoderKLCosmos", "temporal_compression_ratio": 4} | _LATENTS,
    "8x16x16": {"_class_name": "AutoencoderKLCosmos", "spatial_compression_ratio": 16} | _LATENTS,
}


def config(form):
    return AutoencoderKLCosmosConfig.from_dict(FORMS[form][0])


@cache
def built(form):
    return config(form).build(Named())


def theirs_encoded(model, form, frames):
    return their_encode(model, clip(config(form), frames))


def theirs_decoded(model, form, frames):
    return their_decode(model, codes(config(form), frames))


@pytest.mark.parametrize(("form", "frames"), [(form, t) for form, (_, ts) in FORMS.items() for t in ts])
def test_numbers_recorded_of_diffusers(form, frames):
    kept = load("cosmos")["forms"][form]
    latents, media = encode(built(form), clip(config(form), frames)), decode(built(form), codes(config(form), frames))
    as_recorded(kept, frames, latents, media)


@pytest.mark.parametrize("form", FORMS)
def test_names_recorded_of_diffusers(form):
    assert digest(asked(config(form))) == load("cosmos")["forms"][form]["names"]


@pytest.mark.parametrize("form", PUBLISHED)
def test_names_of_published_sizes(form):
    assert digest(asked(AutoencoderKLCosmosConfig.from_dict(PUBLISHED[form]))) == load("cosmos")["published"][form]


@pytest.mark.parametrize("form", FORMS)
def test_diffusers_itself(form, tmp_path):
    pytest.importorskip("diffusers", reason="parity at hand needs diffusers and torch; recorded numbers do not")
    model, options = reference(FORMS[form][0]), FORMS[form][0]
    assert asked(config(form)) == parameters(options)
    told, tensors = read_back(AutoencoderKLCosmosConfig, model, tmp_path)
    ours = told.build(tensors)
    tensors.finish()
    for frames in (1, 1 + told.temporal, 1 + 2 * told.temporal):
        latents, media = encode(ours, clip(config(form), frames)), decode(ours, codes(config(form), frames))
        np.testing.assert_allclose(latents, theirs_encoded(model, form, frames), rtol=0, atol=1e-5)
        np.testing.assert_allclose(media, theirs_decoded(model, form, frames), rtol=0, atol=1e-5)


def test_later_frames_change_nothing_before_them():
    media, latents = clip(config("haar"), 9), codes(config("haar"), 9)
    before = encode(built("haar"), media), decode(built("haar"), latents)
    after = encode(built("haar"), changed(media, 5)), decode(built("haar"), changed(latents, 2))
    np.testing.assert_array_equal(before[0][:, :2], after[0][:, :2])
    np.testing.assert_array_equal(before[1][:, :5], after[1][:, :5])
    assert np.abs(before[0][:, 2] - after[0][:, 2]).max() > 0.1
    assert np.abs(before[1][:, 5] - after[1][:, 5]).max() > 0.1


def test_the_first_frame_is_coded_as_if_alone():
    media, latents = clip(config("haar"), 9), codes(config("haar"), 9)
    alone, whole = encode(built("haar"), media[:, :1]), encode(built("haar"), media)
    np.testing.assert_allclose(alone, whole[:, :1], rtol=0, atol=1e-5)
    alone, whole = decode(built("haar"), latents[:, :1]), decode(built("haar"), latents)
    np.testing.assert_allclose(alone, whole[:, :1], rtol=0, atol=1e-5)


def test_wavelets():
    x = noise("x", (1, 4, 6, 8, 3))
    bands = np.asarray(haar(x)).reshape(1, 2, 3, 4, 2, 2, 2, 3)  # low or high of frames, rows, columns
    block = x[0, 2:4, 4:6, 2:4]
    np.testing.assert_allclose(bands[0, 1, 2, 1, 0, 0, 0], block.mean((0, 1, 2)), rtol=0, atol=1e-6)
    rows = block.mean((0, 2))
    np.testing.assert_allclose(bands[0, 1, 2, 1, 0, 1, 0], (rows[0] - rows[1]) / 2, rtol=0, atol=1e-6)
    np.testing.assert_allclose(8 * np.sum(bands**2), np.sum(x**2), rtol=1e-5)  # all of it, and no more
    np.testing.assert_allclose(unhaar(haar(x)), x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["haar", "rearrange"])
@pytest.mark.parametrize("size", [2, 4])
def test_patches_come_back(kind, size):
    patches, x = Patches(size, kind), noise("x", (2, 9, 8, 8, 3))
    assert patches(x).shape == (2, 1 + 8 // size, 8 // size, 8 // size, 3 * size**3)
    np.testing.assert_allclose(patches.back(patches(x)), x, rtol=0, atol=1e-6)


def test_statistics_of_each_channel_and_frame():
    codec = Pretrained.of(built("haar"), config("haar"))
    np.testing.assert_allclose(codec.mean, [[0.1, 0.3, 0.5, 0.7], [0.2, 0.4, 0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(codec.deviation, [[1, 3, 5, 7], [2, 4, 6, 8]], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"wavelets": 3}, "wavelets"),
        ({"num_layers": "two"}, "num_layers"),
        ({"patch_type": "fourier"}, "fourier"),
        ({"patch_size": 8}, "patch_size"),
        ({"spatial_compression_ratio": 32}, "the encoder change sizes 8 times and frames 4 times, not 32 and 4"),
        ({"decode_block_out_channels": [8, 8]}, "equally many"),
    ],
)
def test_what_is_not_known_is_refused(change, told):
    with pytest.raises(UserError, match=told):
        AutoencoderKLCosmosConfig.from_dict(SMALL | change)


def test_silence_about_the_latents_is_refused():
    with pytest.raises(UserError, match="lacks latents_std"):
        AutoencoderKLCosmosConfig.from_dict({k: v for k, v in SMALL.items() if k != "latents_std"})


@pytest.mark.parametrize("shape", [(1, 4, 4, 4, 3), (1, 5, 6, 4, 3), (1, 5, 4, 4, 4)])
def test_media_that_do_not_fit_are_refused(shape):
    with pytest.raises(UserError, match=r"1 \+ k \* 4 frames"):
        built("haar").encode(np.zeros(shape, np.float32))
