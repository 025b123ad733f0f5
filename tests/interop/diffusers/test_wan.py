"""`AutoencoderKLWan`: what diffusers computes, in its chunks, and what a causal autoencoder promises."""

from functools import cache

import jax
import numpy as np
import pytest

from diorama.core import UserError
from diorama.interop.diffusers.pretrained import Pretrained
from diorama.interop.diffusers.video_blocks import Conv3d, fold, unfold
from diorama.interop.diffusers.video_wan import AutoencoderKLWanConfig
from diorama.interop.tensors import Tensors
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
    "_class_name": "AutoencoderKLWan", "base_dim": 8, "z_dim": 4, "dim_mult": [1, 2, 2], "num_res_blocks": 1,
    "temperal_downsample": [True, True], "latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 3.0, 4.0],
}  # fmt: skip
PATCHED = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "decoder_base_dim": 12}
# Options, and the numbers of frames that are recorded; those with none are compared with diffusers at hand only.
FORMS = {
    "2.1": (SMALL, (1, 9)),
    "2.2": (SMALL | PATCHED | {"temperal_downsample": [False, True]}, (1, 9)),
    "2.1, frames kept": (SMALL | {"temperal_downsample": [False, False]}, ()),
    "2.2, four levels": (SMALL | PATCHED | {"dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]}, ()),
}
_LATENTS = {"latents_mean": None, "latents_std": None}
PUBLISHED = {
    "2.1": {"_class_name": "AutoencoderKLWan"} | _LATENTS,
    "2.2": {"_class_name": "AutoencoderKLWan", "base_dim": 160, "z_dim": 48, "scale_factor_spatial": 16}
    | PATCHED | {"decoder_base_dim": 256} | _LATENTS,
}  # fmt: skip


def config(form):
    return AutoencoderKLWanConfig.from_dict(FORMS[form][0])


@cache
def built(form):
    return config(form).build(Named())


def theirs_encoded(model, form, frames):
    return their_encode(model, clip(config(form), frames))


def theirs_decoded(model, form, frames):
    return their_decode(model, codes(config(form), frames))


@pytest.mark.parametrize(("form", "frames"), [(form, t) for form, (_, ts) in FORMS.items() for t in ts])
def test_numbers_recorded_of_diffusers(form, frames):
    kept = load("wan")["forms"][form]
    latents, media = encode(built(form), clip(config(form), frames)), decode(built(form), codes(config(form), frames))
    as_recorded(kept, frames, latents, media)


@pytest.mark.parametrize("form", FORMS)
def test_names_recorded_of_diffusers(form):
    assert digest(asked(config(form))) == load("wan")["forms"][form]["names"]


@pytest.mark.parametrize("form", PUBLISHED)
def test_names_of_published_sizes(form):
    assert digest(asked(AutoencoderKLWanConfig.from_dict(PUBLISHED[form]))) == load("wan")["published"][form]


@pytest.mark.parametrize("form", FORMS)
def test_diffusers_itself(form, tmp_path):
    pytest.importorskip("diffusers", reason="parity at hand needs diffusers and torch; recorded numbers do not")
    model, options = reference(FORMS[form][0]), FORMS[form][0]
    assert asked(config(form)) == parameters(options)
    told, tensors = read_back(AutoencoderKLWanConfig, model, tmp_path)
    ours = told.build(tensors)
    tensors.finish()
    for frames in (1, 5, 9):  # it takes four at a time, and leaves out those that do not fill a chunk
        latents, media = encode(ours, clip(config(form), frames)), decode(ours, codes(config(form), frames))
        np.testing.assert_allclose(latents, theirs_encoded(model, form, frames), rtol=0, atol=1e-5)
        np.testing.assert_allclose(media, theirs_decoded(model, form, frames), rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["2.1", "2.2"])
def test_later_frames_change_nothing_before_them(form):
    media, latents, t = clip(config(form), 9), codes(config(form), 9), config(form).temporal
    before = encode(built(form), media), decode(built(form), latents)
    after = encode(built(form), changed(media, 1 + t)), decode(built(form), changed(latents, 2))
    np.testing.assert_array_equal(before[0][:, :2], after[0][:, :2])
    np.testing.assert_array_equal(before[1][:, : 1 + t], after[1][:, : 1 + t])
    assert np.abs(before[0][:, 2] - after[0][:, 2]).max() > 0.1
    assert np.abs(before[1][:, 1 + t] - after[1][:, 1 + t]).max() > 0.1


@pytest.mark.parametrize("form", ["2.1", "2.2"])
def test_the_first_frame_is_coded_as_if_alone(form):
    media, latents = clip(config(form), 9), codes(config(form), 9)
    alone, whole = encode(built(form), media[:, :1]), encode(built(form), media)
    np.testing.assert_allclose(alone, whole[:, :1], rtol=0, atol=1e-5)
    alone, whole = decode(built(form), latents[:, :1]), decode(built(form), latents)
    np.testing.assert_allclose(alone, whole[:, :1], rtol=0, atol=1e-5)


def test_statistics_of_the_configuration():
    codec = Pretrained.of(built("2.1"), config("2.1"))
    np.testing.assert_allclose(codec.mean[0], SMALL["latents_mean"], rtol=1e-6)
    np.testing.assert_allclose(codec.deviation[0], SMALL["latents_std"], rtol=1e-6)


def test_sizes():
    published = {name: AutoencoderKLWanConfig.from_dict(options) for name, options in PUBLISHED.items()}
    assert [(c.spatial, c.temporal, c.channels) for c in published.values()] == [(8, 4, 16), (16, 4, 48)]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"causality": "none"}, "causality"),
        ({"base_dim": "wide"}, "base_dim"),
        ({"attn_scales": [0.5]}, "attn_scales"),
        ({"temperal_downsample": [True]}, "temperal_downsample"),
        ({"dim_mult": [1, 1, 1, 1], "temperal_downsample": [True, True, True]}, "chunks of four"),
    ],
)
def test_what_is_not_known_is_refused(change, told):
    with pytest.raises(UserError, match=told):
        AutoencoderKLWanConfig.from_dict(SMALL | change)


def test_silence_about_the_latents_is_refused():
    with pytest.raises(UserError, match="lacks latents_mean"):
        AutoencoderKLWanConfig.from_dict({k: v for k, v in SMALL.items() if k != "latents_mean"})


@pytest.mark.parametrize("shape", [(1, 4, 4, 4, 3), (1, 5, 6, 4, 3), (1, 5, 4, 4, 1)])
def test_media_that_do_not_fit_are_refused(shape):
    with pytest.raises(UserError, match=r"1 \+ k \* 4 frames"):
        built("2.1").encode(np.zeros(shape, np.float32))


def test_a_foreign_file_is_told_in_full():
    arrays = {name: np.zeros(shape, np.float32) for name, shape in asked(config("2.1")).items()}
    arrays["encoder.conv_first.weight"] = arrays.pop("encoder.conv_in.weight")
    arrays["quant_conv.bias"] = np.zeros(7, np.float32)
    tensors = Tensors(arrays, "some file")
    config("2.1").build(tensors)
    with pytest.raises(UserError) as error:
        tensors.finish()
    for name in ("encoder.conv_first.weight", "encoder.conv_in.weight", "quant_conv.bias (7,) instead of (8,)"):
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("size", "stride", "frames", "space", "edges"),
    [
        ((3, 3, 3), (1, 1, 1), (2, 0), (1, 1), "constant"),
        ((3, 3, 3), (2, 2, 2), (1, 1), (1, 1), "edge"),
        ((3, 1, 1), (2, 1, 1), (1, 0), (0, 0), "edge"),
        ((1, 3, 3), (1, 2, 2), (0, 0), (0, 1), "constant"),
        ((1, 1, 1), (1, 1, 1), (0, 0), (0, 0), "constant"),
    ],
)
def test_a_convolution_is_its_sum(size, stride, frames, space, edges):
    weight, bias, x = noise("weight", (*size, 2, 3)), noise("bias", (3,)), noise("x", (1, 5, 4, 6, 2))
    padded = np.pad(x, ((0, 0), frames, (0, 0), (0, 0), (0, 0)), mode=edges)
    padded = np.pad(padded, ((0, 0), (0, 0), space, space, (0, 0)))
    grid = [range((n - k) // s + 1) for n, k, s in zip(padded.shape[1:4], size, stride, strict=True)]
    want = np.zeros((1, *map(len, grid), 3))
    for at in np.ndindex(*want.shape[1:4]):
        window = tuple(slice(i * s, i * s + k) for i, s, k in zip(at, stride, size, strict=True))
        want[(0, *at)] = np.tensordot(padded[(0, *window)], weight, 4) + bias
    got = Conv3d(jax.numpy.asarray(weight), jax.numpy.asarray(bias), stride, frames, space, edges)(x)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_folding():
    x = noise("x", (2, 4, 6, 8, 3))
    folded = fold(x, (2, 3, 4))
    assert folded.shape == (2, 2, 2, 2, 72)
    np.testing.assert_array_equal(folded[1, 1, 0, 1].reshape(3, 2, 3, 4)[2, 1, 2, 3], x[1, 3, 2, 7, 2])
    np.testing.assert_array_equal(unfold(folded, (2, 3, 4)), x)
