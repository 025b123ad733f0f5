"""Layers against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d

from diorama.net.layers import (
    Linear,
    NoiseLevel,
    Norm,
    SpatialConv,
    TemporalConv,
    depth_to_space,
    fourier,
    gate,
    modulate,
    rms,
    space_to_depth,
)

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
X = RNG.normal(size=(2, 4, 4, 6, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2])
def test_space_to_depth_folds_neighbours_and_back(size):
    folded = np.asarray(space_to_depth(X, size))
    assert folded.shape == (2, 4, 4 // size, 6 // size, size * size * 3)
    np.testing.assert_array_equal(
        folded[1, 2, 1, 2].reshape(size, size, 3), X[1, 2, size : 2 * size, 2 * size : 3 * size]
    )
    np.testing.assert_array_equal(depth_to_space(folded, size), X)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("t", [1, 2, 4])
def test_temporal_conv_is_its_sum(causal, t):
    conv = TemporalConv.init(KEY, 3, 5, causal)
    x, weight = X[:, :t], np.asarray(conv.weight)
    want = np.zeros((*x.shape[:-1], 5), np.float32)
    for frame in range(t):
        for tap in range(3):
            source = frame + tap - (2 if causal else 1)
            if 0 <= source < t:
                want[:, frame] += x[:, source] @ weight[tap]
    np.testing.assert_allclose(conv(x), want, atol=1e-5)


def test_the_first_frame_of_a_causal_convolution_is_itself_alone():
    conv = TemporalConv.init(KEY, 3, 5)
    np.testing.assert_allclose(conv(X)[:, :1], conv(X[:, :1]), atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_spatial_conv_is_its_sum(stride):
    conv = SpatialConv.init(KEY, 3, 2, stride=stride)
    conv = SpatialConv(conv.weight, jnp.array([1.0, -1.0]), stride)
    got = np.asarray(conv(X[:1, :1]))[0, 0]
    whole = [
        sum(correlate2d(X[0, 0, :, :, i], np.asarray(conv.weight)[:, :, i, o], "same") for i in range(3))
        for o in range(2)
    ]
    want = np.stack(whole, -1) + np.array([1, -1])
    want = want if stride == 1 else want[1::2, 1::2]  # "SAME" of an even side pads at its end
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_layers_keep_variance_at_their_start():
    x = RNG.normal(size=(1, 1, 32, 32, 64)).astype(np.float32)
    for layer in (Linear.init(KEY, 64, 64), SpatialConv.init(KEY, 64, 64)):
        assert np.asarray(layer(x))[:, :, 1:-1, 1:-1].std() == pytest.approx(1, abs=0.1)
    assert not np.any(Linear.init(KEY, 8, 8, scale=0.0).weight)


def test_norm_and_modulation():
    norm = Norm(jnp.array([1.0, 2.0, 0.0]))
    unit = X / np.sqrt((X**2).mean(-1, keepdims=True))
    np.testing.assert_allclose(rms(X), unit, rtol=1e-4)
    np.testing.assert_allclose(norm(X), unit * [1, 2, 0], rtol=1e-4)
    assert norm(jnp.bfloat16(X)).dtype == jnp.bfloat16
    assert np.isfinite(rms(jnp.zeros((1, 4)))).all()
    assert rms(jnp.bfloat16(X)).dtype == jnp.float32
    scale, shift = RNG.normal(size=(2, 2, 4, 3)).astype(np.float32)
    want = X * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    np.testing.assert_allclose(modulate(X, scale, shift), want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gate(X, scale), X * (1 + scale[:, :, None, None]), rtol=1e-5)


def test_noise_levels_are_told_apart():
    level = jnp.linspace(0, 1, 65)[None]
    features = np.asarray(fourier(level, 64))[0]
    assert features.shape == (65, 64)
    distance = np.linalg.norm(features[:, None] - features[None], axis=-1) + 10 * np.eye(65)
    assert distance.min() > 0.5
    assert NoiseLevel.init(KEY, 6)(level).shape == (1, 65, 6)
