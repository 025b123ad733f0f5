"""Fronts, shortcuts and bottlenecks of the codec."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diorama.codec import FSQ, KL, VQ, Codec, ConvCodecConfig, Haar, Noise, Patch, Reconstruction, decode, encode
from diorama.codec.blocks import Down, Up
from diorama.codec.front import haar
from diorama.core import UserError
from diorama.core.module import Policy, paths
from diorama.net.layers import Linear
from tests.net.tiny import made

RNG = np.random.default_rng(0)
IDS = np.arange(2, dtype=np.uint32)


@pytest.mark.parametrize("front", [Patch(1), Patch(4), Haar(1), Haar(2), Haar(4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_fronts_lose_nothing(front, channels):
    media = RNG.normal(size=(2, 3, 8, 12, channels)).astype(np.float32)
    folded = front.fold(media)
    assert folded.shape == (2, 3, 8 // front.size, 12 // front.size, channels * front.size**2)
    np.testing.assert_allclose(front.unfold(folded), media, atol=1e-5)
    np.testing.assert_allclose(jnp.sum(folded**2), np.sum(media**2), rtol=1e-5)  # orthonormal


@pytest.mark.parametrize("size", [2, 4, 8])
def test_haar(size):
    np.testing.assert_allclose(haar(size) @ haar(size).T, np.eye(size), atol=1e-12)
    flat = np.broadcast_to(np.float32([0.3, -0.2]), (1, 1, size, size, 2))
    folded = np.asarray(Haar(size).fold(flat)).reshape(size**2, 2)
    np.testing.assert_allclose(folded[0], size * flat[0, 0, 0, 0], atol=1e-6)  # the mean, by channel
    np.testing.assert_allclose(folded[1:], 0, atol=1e-6)
    np.testing.assert_allclose(haar(4)[1] * 2, [1, 1, -1, -1])  # coarse differences before fine ones
    with pytest.raises(UserError, match="power of two"):
        Haar(3)


def test_shortcuts_are_average_and_repetition():
    """With nothing learned and as many channels: mean of 2 x 2 pixels, and each pixel four times."""
    x = RNG.normal(size=(1, 2, 4, 6, 8)).astype(np.float32)
    nothing = Linear(jnp.zeros((32, 8)), jnp.zeros(8))
    small = np.asarray(Down(nothing, shortcut=True)(x))
    np.testing.assert_allclose(small, x.reshape(1, 2, 2, 2, 3, 2, 8).mean((3, 5)), atol=1e-6)
    large = np.asarray(Up(Linear(jnp.zeros((8, 32)), jnp.zeros(32)), shortcut=True)(small))
    np.testing.assert_array_equal(large, small.repeat(2, 2).repeat(2, 3))
    # to another width: groups of channels are averaged, and one is repeated over fewer pixels
    np.testing.assert_allclose(Down(Linear(jnp.zeros((32, 4)), jnp.zeros(4)), True)(x),
                               small.reshape(1, 2, 2, 3, 4, 2).mean(-1), atol=1e-6)  # fmt: skip
    wide = np.asarray(Up(Linear(jnp.zeros((8, 16)), jnp.zeros(16)), True)(small))
    assert wide.shape == (1, 2, 4, 6, 4)
    assert not np.asarray(Down(nothing, shortcut=False)(x)).any()


def test_every_parameter_trains_where_all_is_asked_for():
    config = ConvCodecConfig(widths=(32, 32), front=Haar(2), shortcuts=True, middle=1, bottleneck=VQ(codes=16))
    media = RNG.uniform(-1, 1, (2, 3, 8, 8, 3)).astype(np.float32)

    @jax.jit
    def loss(model):
        return Reconstruction(config)(
            Policy("bfloat16").enter(model), {"media": media, "id": IDS}, jax.random.key(0)
        ).value

    gradient = jax.grad(loss)(made(config.init))
    assert [name for name, g in paths(gradient).items() if not np.isfinite(g).all() or not np.any(g)] == []


@pytest.mark.parametrize("config", [KL(1e-3), FSQ((3, 4)), VQ(codes=16), Noise(0.5)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_bottleneck_passes_the_gradient(config, dtype):
    bottleneck = config.init(jax.random.key(0), 4)
    x = jnp.asarray(RNG.normal(size=(2, 1, 3, 3, config.width(4))), dtype)
    out = drawn(Policy(dtype).enter(bottleneck), x)
    assert out.latents.shape == (2, 1, 3, 3, 4)
    assert out.latents.dtype == x.dtype
    assert out.penalty.dtype == jnp.float32
    slope = jax.grad(lambda x: jnp.sum(drawn(bottleneck, x).latents.astype(jnp.float32) * jnp.arange(4)))(x)
    assert np.isfinite(slope.astype(jnp.float32)).all()
    assert np.any(slope)


def drawn(bottleneck, x, key=0, ids=IDS):
    return bottleneck.draw(jnp.asarray(x), jnp.asarray(ids), jax.random.key(key))


def test_kl_is_the_divergence_of_gaussians():
    bottleneck = KL(0.1).init(jax.random.key(0), 4)
    mean, logvar = RNG.normal(size=(2, 1, 50, 50, 4)), RNG.normal(size=(2, 1, 50, 50, 4))
    out = drawn(bottleneck, np.concatenate([mean, logvar], -1).astype(np.float32))
    truth = (mean**2 + np.exp(logvar) - 1 - logvar).mean() / 2
    assert float(out.metrics["kl"]) == pytest.approx(truth, rel=1e-5)
    assert float(out.penalty) == pytest.approx(0.1 * truth, rel=1e-5)
    standard = (np.asarray(out.latents) - mean) / np.exp(logvar / 2)
    assert abs(standard.mean()) < 0.03
    assert standard.std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("levels", [(2,), (3,), (8, 5)])
def test_fsq_takes_its_levels_and_no_others(levels):
    bottleneck = FSQ(levels).init(jax.random.key(0), 2)
    x = RNG.normal(0, 3, (2, 1, 40, 40, 2)).astype(np.float32)
    latents = np.asarray(drawn(bottleneck, x).latents)
    np.testing.assert_array_equal(latents, bottleneck.settle(x))
    for channel in range(2):
        n = levels[channel % len(levels)]
        values = np.unique(latents[..., channel])
        assert len(values) == n
        np.testing.assert_allclose(values, np.linspace(-1, 1, n), atol=1e-6)
        number = np.asarray(bottleneck.number(latents))[..., channel]
        np.testing.assert_array_equal(number, np.searchsorted(values, latents[..., channel]))
    order = np.argsort(x[..., 0], axis=None)
    assert (np.diff(latents[..., 0].reshape(-1)[order]) >= 0).all()  # monotone
    slope = jax.grad(lambda v: bottleneck.settle(v).sum())(jnp.full((1, 1, 1, 1, 2), 0.1))
    assert (slope > 0).all()  # the gradient passes through


def test_vq_is_the_nearest_code():
    bottleneck = VQ(codes=8, commitment=0.5).init(jax.random.key(1), 3)
    x = RNG.normal(size=(2, 1, 5, 5, 3)).astype(np.float32)
    out = drawn(bottleneck, x)
    unit = lambda v: v / np.linalg.norm(v, axis=-1, keepdims=True) * np.sqrt(3)  # noqa: E731
    codes, cells = unit(np.asarray(bottleneck.codes)), unit(x)
    distance = np.square(cells[..., None, :] - codes).sum(-1)
    np.testing.assert_array_equal(bottleneck.number(out.latents), distance.argmin(-1))
    np.testing.assert_allclose(out.latents, codes[distance.argmin(-1)], atol=1e-4)
    assert float(out.penalty) == pytest.approx(1.5 * distance.min(-1).mean() / 3, rel=1e-4)
    np.testing.assert_allclose(bottleneck.settle(x), out.latents, atol=1e-5)


def test_noise_has_its_deviations_and_settles_without():
    bottleneck = Noise(0.8).init(jax.random.key(0), 4)
    x = np.broadcast_to(np.float32([2, -2, 2, -2]), (400, 1, 8, 8, 4))
    noise = np.asarray(drawn(bottleneck, x, ids=np.arange(400, dtype=np.uint32)).latents) - np.sign(x)
    deviations = noise.std((1, 2, 3, 4))
    assert deviations.min() < 0.05
    assert 0.75 < deviations.max() < 0.9
    assert deviations.mean() == pytest.approx(0.4, abs=0.04)
    np.testing.assert_allclose(bottleneck.settle(x), np.sign(x), atol=1e-5)


@pytest.mark.parametrize("make", [lambda: FSQ(()), lambda: FSQ((1,)), lambda: VQ(codes=1)])
def test_impossible_bottlenecks_are_refused(make):
    with pytest.raises(UserError, match="at least 2"):
        make()


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_alpha_media(channels):
    config = ConvCodecConfig(spatial=4, temporal=1, channels=2, widths=(8, 8), media_channels=channels, front=Haar(2))
    codec = Codec.blank(made(config.init), config)
    media = RNG.uniform(-1, 1, (1, 1, 9, 6, channels)).astype(np.float32)
    assert decode(codec, encode(codec, media)).shape == (1, 1, 12, 8, channels)


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"widths": (0, 64)}, {"depth": 0}, {"middle": -1}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(UserError, match="at least"):
        ConvCodecConfig(**wrong)


def test_a_deep_one_has_keys_enough():
    shallow, deep = (ConvCodecConfig(spatial=32, widths=(8,) * 5, depth=depth) for depth in (1, 14))
    a, b = (jax.eval_shape(config.init, jax.random.key(0)) for config in (shallow, deep))
    assert len(b.encoder.levels[0]) == 14 * len(a.encoder.levels[0])
    few, many = (jax.random.split(jax.random.key(0), n) for n in (64, 134))
    assert (few == many[:64]).all()  # so that a config of before starts where it did
