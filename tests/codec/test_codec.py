"""The codec: causality, shapes, statistics, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diorama.codec import (
    KL,
    Codec,
    ConvCodecConfig,
    Haar,
    Patch,
    PixelCodec,
    PixelCodecConfig,
    Reconstruction,
    compression,
    decode,
    encode,
    latent_shape,
)
from diorama.codec.codec import pad
from diorama.core import UserError
from diorama.core.module import Policy, paths
from tests.net.tiny import made

CONFIG = ConvCodecConfig(spatial=4, temporal=2, channels=3, widths=(8, 8), bottleneck=KL(1e-3))
MEDIA = np.random.default_rng(0).uniform(-1, 1, (2, 5, 8, 8, 3)).astype(np.float32)


def codec_of(config):
    return Codec.blank(made(config.init), config)


@pytest.fixture(scope="module")
def codec():
    return codec_of(CONFIG)


@pytest.fixture(scope="module")
def latents(codec):
    return np.asarray(encode(codec, MEDIA))


def test_the_first_frame_of_a_video_is_the_image_coded_alone(codec, latents):
    np.testing.assert_allclose(encode(codec, MEDIA[:, :1]), latents[:, :1], atol=1e-5)
    np.testing.assert_allclose(decode(codec, latents[:, :1]), decode(codec, latents)[:, :1], atol=1e-5)


def test_later_frames_change_nothing_earlier(codec, latents):
    assert latents.shape == (2, 3, 2, 2, 3)
    for first in (1, 2, 3, 4):  # latent 1 covers frames 1 and 2, latent 2 frames 3 and 4
        changed = MEDIA.copy()
        changed[:, first:] *= -1
        after = np.asarray(encode(codec, changed))
        touched = (first + 1) // 2
        np.testing.assert_array_equal(after[:, :touched], latents[:, :touched])
        assert np.abs(after - latents)[:, touched].max() > 1e-4
    media = np.asarray(decode(codec, latents))
    assert media.shape == MEDIA.shape
    later = np.asarray(decode(codec, latents * np.array([1, -1, 1])[:, None, None, None]))
    np.testing.assert_array_equal(later[:, :1], media[:, :1])
    assert np.abs(later - media)[:, 1:3].max() > 1e-4


def test_examples_do_not_see_each_other(codec, latents):
    np.testing.assert_allclose(encode(codec, MEDIA[::-1])[::-1], latents, atol=1e-6)


@pytest.mark.parametrize(
    ("spatial", "temporal", "front"),
    [(2, 1, Patch(2)), (4, 4, Haar(2)), (8, 2, Patch(4)), (8, 1, Patch(2)), (2, 4, Patch(1)), (32, 8, Haar(4))],
)
def test_shapes(spatial, temporal, front):
    levels = int(np.log2(spatial // front.size)) + 1
    config = ConvCodecConfig(spatial, temporal, 2, front, widths=(4,) * levels)
    codec = jax.eval_shape(lambda: Codec.blank(config.init(jax.random.key(0)), config))
    for t, h, w in ((1, 8, 16), (9, 16, 8), (6, 7, 9)):
        z = jax.eval_shape(Codec.encode, codec, jax.ShapeDtypeStruct((2, t, h, w, 3), jnp.float32))
        assert z.shape[1:] == codec.latent_shape(t, h, w) == latent_shape(config, t, h, w)
        assert z.shape[2:4] == (-(-h // spatial), -(-w // spatial))
        again = jax.eval_shape(Codec.decode, codec, z)
        assert again.shape == (2, 1 + (z.shape[1] - 1) * temporal, z.shape[2] * spatial, z.shape[3] * spatial, 3)


def test_odd_sizes_are_filled_up_with_their_edges(codec):
    media = MEDIA[:, :4, :7, :6]
    padded = np.asarray(pad(media, CONFIG))
    assert padded.shape == MEDIA.shape
    np.testing.assert_array_equal(padded[:, :4, :7, :6], media)
    np.testing.assert_array_equal(padded[:, 4, :7, :6], media[:, 3])
    np.testing.assert_array_equal(padded[:, :4, 7, :6], media[:, :, 6])
    np.testing.assert_array_equal(encode(codec, media), encode(codec, padded))
    assert pad(MEDIA, CONFIG) is MEDIA


def test_measured_latents_have_zero_mean_and_unit_variance(codec, latents):
    measured = codec.measured([latents[:1], latents[1:]])
    z = np.asarray(encode(measured, MEDIA))
    np.testing.assert_allclose(z.mean((0, 1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(z.std((0, 1, 2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(decode(measured, z), decode(codec, latents), atol=1e-5)  # and decoding undoes it
    far = codec.measured([latents + 1000])  # no cancellation
    np.testing.assert_allclose(far.deviation, measured.deviation, rtol=1e-3)


def test_decoded_media_stay_in_range(codec):
    media = decode(codec, 1e3 * jnp.ones((2, 3, 2, 2, 3)))
    assert float(jnp.abs(media).max()) <= 1


def test_compression_counts_numbers():
    config = ConvCodecConfig(spatial=4, temporal=4, channels=4)
    codec = jax.eval_shape(lambda: Codec.blank(config.init(jax.random.key(0)), config))
    assert compression(codec, 9, 32, 32) == 9 * 32 * 32 * 3 / (3 * 8 * 8 * 4)
    assert compression(codec, 1, 32, 32) == 12
    assert compression(PixelCodec(PixelCodecConfig()), 9, 32, 32) == 1


def test_pixels_are_their_own_latents():
    codec = PixelCodec(PixelCodecConfig())
    np.testing.assert_array_equal(encode(codec, MEDIA), MEDIA)
    np.testing.assert_array_equal(decode(codec, 2 * MEDIA), np.clip(2 * MEDIA, -1, 1))
    assert codec.latent_shape(5, 8, 8) == MEDIA.shape[1:]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"spatial": 3}, "powers of two"),
        ({"temporal": 0}, "powers of two"),
        ({"spatial": 8}, "spatial=8 with a front of 2 takes 3 widths"),
        ({"spatial": 2, "front": Patch(4)}, "takes 1 widths"),
        ({"shortcuts": True, "widths": (24, 64)}, "four times each one divides"),
        ({"middle": 1, "widths": (32, 48)}, "multiple of 32"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings, says):
    with pytest.raises(UserError, match=says):
        ConvCodecConfig(**settings)


@pytest.fixture(scope="module")
def learned():
    """Forty steps on two clips, and the loss on the way."""
    objective = Reconstruction(CONFIG)
    optimiser = optax.adam(1e-2)
    x = np.linspace(-1, 1, 8, dtype=np.float32)
    media = np.broadcast_to(np.stack([x[:, None] * x, x[:, None] + 0 * x])[:, None, :, :, None], (2, 3, 8, 8, 3))
    batch = {"media": jnp.asarray(media), "id": jnp.arange(2, dtype=jnp.uint32)}

    @jax.jit
    def run(model):
        def step(carry, i):
            model, state = carry

            def value(m):
                loss = objective(m, batch, jax.random.fold_in(jax.random.key(1), i))
                return loss.value, loss.metrics

            (loss, metrics), gradient = jax.value_and_grad(value, has_aux=True)(model)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(model, updates), state), (loss, metrics, gradient)

        return jax.lax.scan(step, (model, optimiser.init(model)), jnp.arange(40))[1]

    return run(jax.jit(CONFIG.init)(jax.random.key(0)))


def test_it_learns(learned):
    loss, metrics, _ = learned
    assert np.isfinite(loss).all()
    assert loss[-5:].mean() < 0.2 * loss[0]
    np.testing.assert_allclose(metrics["mse"] + 1e-3 * metrics["kl"], loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["psnr"], 10 * np.log10(4 / metrics["mse"]), rtol=1e-4)
    assert (metrics["kl"] > 0).all()


def test_every_parameter_learns(learned):
    assert [name for name, g in paths(learned[2]).items() if not np.any(np.asarray(g)[5])] == []


def test_the_objective_meets_an_example_with_the_same_noise_in_any_company(codec):
    objective = Reconstruction(CONFIG)
    media = MEDIA[:1].repeat(2, 0)

    @jax.jit
    def loss(ids):
        return objective(codec.autoencoder, {"media": media, "id": ids}, jax.random.key(0)).value

    a, b, both = (float(loss(jnp.array(ids, jnp.uint32))) for ids in ((4, 4), (9, 9), (4, 9)))
    assert a != b
    assert both == pytest.approx((a + b) / 2, rel=1e-5)


def test_the_objective_in_bfloat16_is_near(codec):
    batch = {"media": MEDIA, "id": np.arange(2, dtype=np.uint32)}
    run = jax.jit(lambda model: Reconstruction(CONFIG)(model, batch, jax.random.key(0)))
    full, low = run(codec.autoencoder), run(Policy("bfloat16").enter(codec.autoencoder))
    assert {x.dtype for x in jax.tree.leaves(low)} == {jnp.dtype(jnp.float32)}
    assert float(low.value) == pytest.approx(float(full.value), rel=0.03)
