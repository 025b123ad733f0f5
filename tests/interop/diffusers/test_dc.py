"""`AutoencoderDC`: what diffusers computes, names and all, and its parts against their formulas."""

import inspect
from dataclasses import fields

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.core import UserError
from diorama.interop.diffusers import AutoencoderDCConfig, dc_blocks
from diorama.interop.diffusers.blocks import BatchNorm, Conv, endless, pixel_shuffle, pixel_unshuffle
from tests.interop.diffusers.cases import (
    CASES,
    PUBLISHED,
    built,
    encode,
    media_of,
)
from tests.net.tiny import made as stirred


@pytest.mark.parametrize(
    ("name", "spatial", "channels"),
    [("dc-ae-f32c32", 32, 32), ("dc-ae-f64c128", 64, 128), ("dc-ae-f128c512", 128, 512), ("dc-ae-f32c32-sana", 32, 32)],
)
def test_sizes_of_published_models(name, spatial, channels):
    config = AutoencoderDCConfig.from_dict(PUBLISHED[name])
    assert (config.spatial, config.temporal, config.channels) == (spatial, 1, channels)


def test_defaults_are_those_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = inspect.signature(diffusers.AutoencoderDC.__init__).parameters
    assert {f.name: f.default for f in fields(AutoencoderDCConfig)} == {
        name: p.default for name, p in theirs.items() if name != "self"
    }


def test_frames_do_not_see_one_another():
    options = CASES["dc_without_shortcuts"]
    model, media = built(options), media_of(options)
    changed = encode(model, np.concatenate([media[:, :1], -media[:, 1:]], axis=1)) - encode(model, media)
    assert np.abs(changed)[:, 0].max() == 0
    assert np.abs(changed)[:, 1].max() > 1e-3


def test_unshuffling_puts_each_channel_s_four_neighbours_side_by_side():
    x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    y = pixel_unshuffle(x)
    assert y.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(y[1, 1, 2, 4:8], x[1, 2:4, 4:6, 1].reshape(-1))
    np.testing.assert_array_equal(pixel_shuffle(y), x)


def test_shortcuts_average_and_repeat_channels():
    x = jnp.arange(1.0, 13).reshape(1, 1, 1, 12)
    np.testing.assert_allclose(dc_blocks.averaged(x, 4).reshape(-1), [2, 5, 8, 11])
    np.testing.assert_array_equal(dc_blocks.repeated(x[..., :2], 6).reshape(-1), [1, 1, 1, 2, 2, 2])


def test_a_level_without_convolution_is_its_shortcut():
    """Down then up by shortcuts alone: each channel's mean over 2 x 2 pixels, if as many channels remain."""
    zero = jnp.zeros((3, 3, 4, 4))
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 4)).astype(np.float32)
    down = dc_blocks.Down(Conv(zero, None, stride=2), 4, True)
    up = dc_blocks.Up(Conv(zero, None), 4, True, True)
    means = x.reshape(1, 2, 2, 2, 2, 4).mean((2, 4), keepdims=True)
    np.testing.assert_allclose(up(down(x)), jnp.broadcast_to(means, (1, 2, 2, 2, 2, 4)).reshape(x.shape), atol=1e-6)


def test_linear_attention_is_its_quadratic_form():
    width, head = 8, 4
    attention = stirred(lambda key: dc_blocks.MultiscaleAttention.init(endless(key), width, head, (), "rms_norm"))
    x = np.random.default_rng(0).normal(size=(2, 3, 5, width)).astype(np.float32)
    tokens = np.asarray(x, np.float64).reshape(2, 15, width)
    qkv = np.concatenate([tokens @ np.asarray(p.weight) for p in (attention.to_q, attention.to_k, attention.to_v)], -1)
    query, key, value = np.split(qkv.reshape(2, 15, 2, 3 * head), 3, axis=-1)
    score = np.einsum("nqke,nlke->nkql", np.maximum(query, 0), np.maximum(key, 0))
    seen = np.einsum("nkql,nlke->nqke", score / (score.sum(-1, keepdims=True) + 1e-15), value).reshape(2, 15, width)
    expected = tokens + np.asarray(attention.norm_out(jnp.float32(seen @ np.asarray(attention.to_out.weight))))
    np.testing.assert_allclose(
        jax.jit(attention.__class__.__call__)(attention, x).reshape(tokens.shape), expected, atol=1e-5
    )


def test_batch_norm_keeps_the_statistics_of_its_training():
    norm = BatchNorm(jnp.full(2, 3.0), jnp.ones(2), jnp.array([1.0, -2.0]), jnp.array([4.0, 0.25]))
    x = jnp.array([[5.0, -1.0]])
    np.testing.assert_allclose(norm(x), [[7, 7]], rtol=1e-4)
    grads = jax.grad(lambda norm: norm(x).sum())(norm)
    assert float(jnp.abs(grads.running_mean).max() + jnp.abs(grads.running_var).max()) == 0
    assert float(jnp.abs(grads.weight).min()) > 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"encoder_something": 1}, "encoder_something"),
        ({"encoder_block_types": "ConvNextBlock"}, "ConvNextBlock"),
        ({"decoder_norm_types": "layer_norm"}, "layer_norm"),
        ({"upsample_block_type": "bicubic"}, "bicubic"),
        ({"decoder_layers_per_block": [1, 1]}, "2 decoder_layers_per_block for 4"),
        ({"encoder_layers_per_block": [0, 1, 0, 1]}, "levels without a block"),
        ({"decoder_layers_per_block": [1, 1, 2, 1]}, "in both encoder and decoder"),
        ({"latent_channels": 12}, "32 channels and 12"),
        ({"attention_head_dim": 64}, "attention_head_dim=64"),
        ({"encoder_block_out_channels": [32]}, "two levels"),
        ({"encoder_qkv_multiscales": [[], [], [4], []]}, "odd kernel sizes"),
    ],
)
def test_what_is_not_known_is_refused_by_name(change, told):
    with pytest.raises(UserError, match=told):
        AutoencoderDCConfig.from_dict(CASES["dc_f32"] | change)
