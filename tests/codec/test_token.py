"""A line of tokens: what of the conv codec holds for it too, lines of any length, and what it refuses."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diorama.codec import (
    FSQ,
    KL,
    VQ,
    Codec,
    CodecLoss,
    Noise,
    Reconstruction,
    TokenCodecConfig,
    compression,
    decode,
    decode_chunks,
    encode,
    encode_chunks,
    encode_tiles,
    latent_shape,
    shortened,
)
from diorama.codec.loss import L2, Equivariance, LatentNoise, LatentSpectrum
from diorama.core import UserError
from diorama.core.config import parse, to_text
from diorama.core.module import Policy, paths
from tests.net.tiny import made

CONFIG = TokenCodecConfig(
    (8, 12), spatial=4, temporal=2, channels=3, tokens=5, least=2, masked=0.5, width=32, depth=1, bottleneck=KL(1e-3)
)
MEDIA = np.random.default_rng(0).uniform(-1, 1, (2, 5, 8, 12, 3)).astype(np.float32)
STILLS = MEDIA[:, :1]
IDS = np.arange(2, dtype=np.uint32)


def codec_of(config):
    statistics = np.random.default_rng(1).normal(0.3, 2, (4, 1, 1, 1, config.channels))
    return Codec.blank(made(config.init), config).measured([statistics])


@pytest.fixture(scope="module")
def codec():
    return codec_of(CONFIG)


@pytest.fixture(scope="module")
def latents(codec):
    return np.asarray(encode(codec, MEDIA))


@pytest.fixture(scope="module")
def still(codec):
    return np.asarray(encode(codec, STILLS))


draw = jax.jit(lambda autoencoder, media, ids, key: autoencoder.draw(media, ids, key))
encoded = jax.jit(lambda encoder, media, seen: encoder.chunk(media, None, seen)[0])


def test_the_first_frame_of_a_video_is_the_image_coded_alone(codec, latents, still):
    assert latents.shape == (2, 3, 1, 5, 3)
    np.testing.assert_allclose(still, latents[:, :1], atol=1e-5)
    np.testing.assert_allclose(decode(codec, latents[:, :1]), decode(codec, latents)[:, :1], atol=1e-5)


def test_later_frames_change_nothing_earlier(codec, latents):
    for first in (1, 2, 3, 4):  # latent 1 covers frames 1 and 2, latent 2 frames 3 and 4
        changed = MEDIA.copy()
        changed[:, first:] *= -1
        after = np.asarray(encode(codec, changed))
        touched = (first + 1) // 2
        np.testing.assert_array_equal(after[:, :touched], latents[:, :touched])
        assert np.abs(after - latents)[:, touched].max() > 1e-4
    media = np.asarray(decode(codec, latents))
    later = np.asarray(decode(codec, latents * np.array([1, -1, 1])[:, None, None, None]))
    assert media.shape == MEDIA.shape
    np.testing.assert_array_equal(later[:, :1], media[:, :1])
    assert np.abs(later - media)[:, 1:3].max() > 1e-4


def test_chunks_are_the_whole(codec, latents):
    pieces = list(encode_chunks(codec, [MEDIA[:, :4], MEDIA[:, 4:]], size=2))
    assert [z.shape[1] for z in pieces] == [2, 1]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), latents, atol=1e-5)
    again = np.concatenate(list(decode_chunks(codec, pieces)), axis=1)
    np.testing.assert_allclose(again, decode(codec, latents), atol=1e-5)


def test_every_token_sees_the_picture_and_every_patch_the_tokens(codec, still):
    changed = STILLS.copy()
    changed[:, :, :4, :4] *= -1
    assert np.abs(np.asarray(encode(codec, changed)) - still).max((0, 1, 2, 4)).min() > 1e-4
    for i in range(5):
        other = still * (1 - 2 * (np.arange(5) == i))[:, None]
        moved = np.abs(np.asarray(decode(codec, other) - decode(codec, still))).reshape(2, 2, 4, 3, 4, 3)
        assert moved.max((0, 2, 4, 5)).min() > 1e-4


@pytest.mark.parametrize(("spatial", "temporal", "size"), [(2, 1, (4, 8)), (4, 4, (8, 8)), (8, 8, (16, 8))])
@pytest.mark.parametrize("bottleneck", [KL(), FSQ((3,)), VQ(codes=4), Noise()])
def test_shapes(spatial, temporal, size, bottleneck):
    config = TokenCodecConfig(size, spatial, temporal, 2, 3, width=32, depth=1, bottleneck=bottleneck)
    codec = jax.eval_shape(lambda: Codec.blank(config.init(jax.random.key(0)), config))
    for t, h, w in ((1, *size), (9, *size), (6, size[0] - 1, size[1] - 1)):
        z = jax.eval_shape(Codec.encode, codec, jax.ShapeDtypeStruct((2, t, h, w, 3), jnp.float32))
        assert z.shape[1:] == codec.latent_shape(t, h, w) == latent_shape(config, t, h, w)
        assert z.shape[2:] == (1, 3, 2)
        again = jax.eval_shape(Codec.decode, codec, z)
        assert again.shape == (2, 1 + (z.shape[1] - 1) * temporal, *size, 3)
    assert compression(codec, 1, *size) == 3 * size[0] * size[1] / (3 * 2)


CROWD = 400


def test_company_changes_nothing(codec, latents):
    np.testing.assert_allclose(encode(codec, MEDIA[::-1])[::-1], latents, atol=1e-5)
    media = np.random.default_rng(2).uniform(-1, 1, (CROWD, 1, 8, 12, 3)).astype(np.float32)
    ids = np.arange(CROWD, dtype=np.uint32)
    a = draw(codec.autoencoder, media, ids, jax.random.key(0)).latents
    b = draw(codec.autoencoder, media[::-1], ids[::-1], jax.random.key(0)).latents
    np.testing.assert_allclose(b[::-1], a, atol=1e-5)
    c = draw(codec.autoencoder, media, ids // 2 * 2, jax.random.key(0)).latents
    np.testing.assert_allclose(c[::2], a[::2], atol=1e-5)
    assert np.abs(c[1::2] - a[1::2]).max((1, 2, 3, 4)).min() > 1e-3


def test_a_line_cut_short_is_a_line_with_a_null_tail(codec, still):
    null = codec.normalise(codec.autoencoder.decoder.null)
    for k in (1, 3, 5):  # 1 is fewer than training keeps
        filled = jnp.where(jnp.arange(5)[:, None] < k, still, null)
        assert shortened(still, k).shape == (2, 1, 1, k, 3)
        np.testing.assert_allclose(decode(codec, shortened(still, k)), decode(codec, filled), atol=1e-5)
    assert np.abs(decode(codec, shortened(still, 3)) - decode(codec, still)).max() > 1e-3
    for k in (0, 6):
        with pytest.raises(UserError, match=f"lines of 5 tokens cannot be cut to {k}"):
            shortened(still, k)


def test_training_drops_the_tail_of_each_example(codec):
    drawn = draw(codec.autoencoder, STILLS[:1].repeat(CROWD, 0), np.arange(CROWD, dtype=np.uint32), jax.random.key(0))
    null = np.asarray(drawn.latents == codec.autoencoder.decoder.null).all(-1)[:, 0, 0]
    kept = (~null).sum(-1)
    np.testing.assert_array_equal(null, np.arange(5) >= kept[:, None])  # a tail, and nothing else
    shares = np.bincount(kept, minlength=6) / CROWD
    assert not shares[:2].any()
    np.testing.assert_allclose(shares[2:], 0.25, atol=0.08)


def test_the_penalty_counts_all_tokens_and_settling_hides_and_drops_none(codec, still):
    model = made(replace(CONFIG, masked=0.0).init)  # of the same parameters as the codec's
    x = np.asarray(encoded(model.encoder, STILLS, None))
    mean, logvar = np.split(x, 2, axis=-1)
    truth = (mean**2 + np.exp(logvar) - 1 - logvar).mean() / 2
    drawn = draw(model, STILLS, IDS, jax.random.key(0))
    assert float(drawn.metrics["kl"]) == pytest.approx(truth, rel=1e-4)
    assert float(drawn.penalty) == pytest.approx(1e-3 * truth, rel=1e-4)
    np.testing.assert_allclose(codec.restore(still), mean, atol=1e-5)


def test_hidden_patches_are_not_seen(codec):
    seen = np.arange(6)[:, None] != 4  # of 2 x 3 patches, the middle one of the second row
    changed = STILLS.copy()
    changed[:, :, 4:, 4:8] *= -1
    a, b, c, d = (
        np.asarray(encoded(codec.autoencoder.encoder, media, which))
        for which in (seen, np.ones_like(seen)) for media in (STILLS, changed)
    )  # fmt: skip
    np.testing.assert_array_equal(a, b)
    assert min(np.abs(c - d).max(), np.abs(a - c).max()) > 1e-4


def test_every_parameter_trains_where_all_is_asked_for():
    config = replace(CONFIG, bottleneck=VQ(codes=16))
    batch = {"media": STILLS, "id": IDS}

    def loss(model):
        return Reconstruction(config)(Policy("bfloat16").enter(model), batch, jax.random.key(1)).value

    gradient = jax.jit(jax.grad(loss))(made(config.init))
    assert [name for name, g in paths(gradient).items() if not np.isfinite(g).all() or not np.any(g)] == []


def test_pictures_of_another_size_are_refused(codec):
    for h, w in ((8, 8), (8, 13), (16, 12)):
        with pytest.raises(UserError, match=rf"pictures of 8 x 12, not {h} x {w}"):
            latent_shape(CONFIG, 1, h, w)
    with pytest.raises(UserError, match="pictures of 8 x 12, not 12 x 8"):
        encode(codec, MEDIA.swapaxes(2, 3))


def test_latents_that_are_no_line_of_this_codec_are_refused(codec):
    fixed = codec_of(replace(CONFIG, least=None))
    for shape, says in (((1, 6), "1 x 6 cells"), ((2, 5), "2 x 5 cells"), ((1, 0), "1 x 0 cells")):
        with pytest.raises(UserError, match=says):
            decode(codec, jnp.zeros((1, 1, *shape, 3)))
    with pytest.raises(UserError, match="4 of 5 tokens: this codec needs all"):
        decode(fixed, jnp.zeros((1, 1, 1, 4, 3)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"spatial": 3}, "powers of two"),
        ({"temporal": 0}, "powers of two"),
        ({"size": (32, 30)}, "patches of 4 pixels"),
        ({"size": (0, 32)}, "patches of 4 pixels"),
        ({"tokens": 0}, "at least 1"),
        ({"least": 0}, "at least 1"),
        ({"least": 16}, "None keeps all"),
        ({"masked": 1.0}, "a share of patches"),
        ({"width": 48}, "multiple of 32"),
        ({"depth": 0}, "at least 1 block"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings, says):
    with pytest.raises(UserError, match=says):
        TokenCodecConfig(**settings)


def test_it_survives_as_text():
    assert parse(to_text(CONFIG), TokenCodecConfig) == CONFIG
    assert parse(to_text(TokenCodecConfig()), TokenCodecConfig) == TokenCodecConfig()


@pytest.mark.slow
def test_it_learns_and_more_tokens_tell_more():
    """Media that are four numbers each, in up to four tokens of one number.

    Tokens are learned one after the other: after 1,000 steps the later ones are only beginning to tell, when depends on
    the last bits of a machine's arithmetic. After 2,000 all of six seeds hold to what is asked.
    """
    steps = 2000
    config = TokenCodecConfig((8, 8), 4, 1, 1, 4, least=1, width=32, depth=1, bottleneck=KL(1e-4), media_channels=1)
    y, x = np.mgrid[-1:1:8j, -1:1:8j]
    numbers = np.random.default_rng(0).uniform(-1, 1, (32, 4))
    media = np.einsum("nk,khw->nhw", numbers, [np.ones_like(x), x, y, x * y])[:, None, :, :, None]
    batch = {"media": jnp.asarray(media, jnp.float32), "id": jnp.arange(32, dtype=jnp.uint32)}
    objective, optimiser = Reconstruction(config), optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    @jax.jit
    def train(model):
        def step(carry, i):
            model, state = carry
            value = lambda m: objective(m, batch, jax.random.fold_in(jax.random.key(1), i)).value  # noqa: E731
            loss, gradient = jax.value_and_grad(value)(model)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(model, updates), state), loss

        (model, _), loss = jax.lax.scan(step, (model, optimiser.init(model)), jnp.arange(steps))
        return model, loss

    model, loss = train(jax.jit(config.init)(jax.random.key(0)))
    assert np.isfinite(loss).all()
    assert loss[-50:].mean() < 0.25 * loss[0]
    latents = encode(Codec.blank(model, config), batch["media"])
    decoded = jax.jit(lambda model, z: model.decode(z))  # not clipped, for these are no pictures
    one, two, all_ = (float(np.square(decoded(model, shortened(latents, k)) - media).mean()) for k in (1, 2, 4))
    assert one < 0.5 * float(loss[0])
    assert all_ < 0.25 * one
    assert two < 0.95 * one
    assert all_ < 0.95 * two


def test_what_needs_a_grid_is_refused(codec):
    with pytest.raises(UserError, match="in tiles"):
        encode_tiles(codec, STILLS, tile=2, overlap=1)
    for term in (Equivariance(), LatentSpectrum(), LatentNoise()):
        with pytest.raises(UserError, match="leave it out"):
            CodecLoss((L2(), term)).objective(CONFIG)
