"""`AutoencoderKL`: what diffusers computes, names and all, and that it can be trained here."""

import inspect
from dataclasses import fields
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diorama.codec import Reconstruction
from diorama.core import UserError
from diorama.core.module import paths
from diorama.interop.diffusers import AutoencoderKLConfig, image, pretrained
from diorama.interop.diffusers.blocks import GroupNorm, endless
from tests.interop.diffusers.cases import (
    CASES,
    PUBLISHED,
    built,
    encode,
    kl,
    made,
    media_of,
    save,
    shapes,
)
from tests.net.tiny import made as stirred

TINY = AutoencoderKLConfig.from_dict(kl((6,), norm_num_groups=2, latent_channels=2))


def test_the_first_autoencoder_of_stable_diffusion_has_as_many_parameters_as_published():
    assert sum(int(np.prod(shape)) for shape in shapes(PUBLISHED["stable-diffusion"]).values()) == 83_653_863


def test_defaults_are_those_of_diffusers():
    diffusers = pytest.importorskip("diffusers")
    theirs = inspect.signature(diffusers.AutoencoderKL.__init__).parameters
    assert {f.name: f.default for f in fields(AutoencoderKLConfig)} == {
        name: p.default for name, p in theirs.items() if name != "self"
    }


def test_frames_do_not_see_one_another():
    options = CASES["one_level"]
    model, media = built(options), media_of(options)
    whole = encode(model, media)
    np.testing.assert_allclose(encode(model, media[:, 1:]), whole[:, 1:], atol=1e-6)
    changed = encode(model, np.concatenate([media[:, :1], -media[:, 1:]], axis=1))
    np.testing.assert_array_equal(changed[:, :1], whole[:, :1])
    assert np.abs(changed - whole)[:, 1].max() > 1e-3


def test_group_norm_is_zero_mean_and_unit_variance_a_group():
    x = np.random.default_rng(0).normal(3, 2, (2, 3, 5, 8)).astype(np.float32)
    y = np.asarray(GroupNorm.init(8, 2)(jnp.asarray(x))).reshape(2, 15, 2, 4)
    np.testing.assert_allclose(y.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((1, 3)), 1, atol=1e-5)


def test_attention_in_parts_is_attention_whole(monkeypatch):
    made = stirred(lambda key: image.Attention.init(endless(key), 6, 2))
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype(np.float32)
    tokens = made.group_norm(x).reshape(2, 15, 6)
    query, key, value, (out,) = made.to_q(tokens), made.to_k(tokens), made.to_v(tokens), made.to_out
    seen = jax.nn.softmax(query @ key.swapaxes(1, 2) / np.sqrt(6)) @ value
    for at_once in (4, 1024):  # 15 queries: three parts and a rest, or one
        monkeypatch.setattr(image, "QUERIES", at_once)
        np.testing.assert_allclose(jax.jit(made.__class__.__call__)(made, x), x + out(seen).reshape(x.shape), atol=1e-5)


@pytest.mark.parametrize("convolution", [False, True])
def test_attention_by_its_old_names(convolution, tmp_path):
    options = CASES["flux"]
    old = {}
    for name, shape in shapes(options).items():
        array = made(name, shape)
        for now, then in (("to_q.", "query."), ("to_k.", "key."), ("to_v.", "value."), ("to_out.0.", "proj_attn.")):
            if f"attentions.0.{now}" in name:
                array = array[..., None, None] if convolution and array.ndim == 2 else array
                name = name.replace(now, then)
        old[name] = array
    assert sum("proj_attn" in name for name in old) == 4
    new = pretrained(save(options, tmp_path / "new"))
    again = pretrained(save(options, tmp_path / "old", old))
    for path, array in paths(new).items():
        np.testing.assert_array_equal(paths(again)[path], array)
    both = old | {name: made(name, shape) for name, shape in shapes(options).items()}
    with pytest.raises(UserError, match=r"holds both .*key\.bias and .*to_k\.bias"):
        pretrained(save(options, tmp_path / "both", both))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mid_block_type": "x", "attn_heads": 2}, "attn_heads, mid_block_type"),
        ({"down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]}, "AttnDownEncoderBlock2D"),
        ({"up_block_types": ["UpDecoderBlock2D"]}, "1 up_block_types for 2"),
        ({"norm_num_groups": 3}, "norm_num_groups=3"),
        ({"act_fn": "relu6"}, "relu6"),
        ({"layers_per_block": 0}, "from 1"),
        ({"latents_mean": [0.0] * 4}, "go together"),
        ({"latent_channels": "four"}, "latent_channels='four' does not fit"),
        ({"block_out_channels": [8, 8.5]}, "block_out_channels"),
    ],
)
def test_what_is_not_known_is_refused_by_name(change, told):
    with pytest.raises(UserError, match=told):
        AutoencoderKLConfig.from_dict(kl((8, 8)) | change)


def test_a_new_one_learns_by_our_objective():
    key = jax.random.key(0, impl="unsafe_rbg")  # like the level below, for compiling takes most of the time
    media = np.random.default_rng(0).uniform(-1, 1, (8, 1, 4, 4, 3)) * 0.2 + np.linspace(-0.8, 0.8, 8).reshape(
        8, 1, 1, 1, 1
    )
    batch = {"media": jnp.asarray(media, jnp.float32), "id": jnp.arange(8)}
    optimizer, objective = optax.adam(1e-2), Reconstruction(TINY)

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def update(model, state, key):
        loss, grads = jax.value_and_grad(lambda model: objective(model, batch, key).value)(model)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(model, updates), state, loss, grads

    model = jax.jit(TINY.init, compiler_options={"xla_backend_optimization_level": 0})(key)
    state, losses = optimizer.init(model), []
    for _ in range(80):
        model, state, loss, grads = update(model, state, key)
        losses.append(float(loss))
    assert np.mean(losses[-5:]) < 0.35 * losses[0]
    assert [path for path, grad in paths(grads).items() if not np.abs(grad).max() > 0] == []
