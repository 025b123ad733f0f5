"""The self-supervised embedding: its parts against exact truths, and that it tells what was planted in a catalogue."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from diorama.core.errors import UserError
from diorama.data import Catalogue, Curation, curate
from diorama.data.embed import SelfSupervised
from diorama.data.embed.augment import interpolation, random_crops, views
from diorama.data.embed.patches import Encoder, dictionary, discriminant, features, patches
from diorama.data.embed.pictures import embed
from diorama.data.stages.preview import Preview
from diorama.media import write_png

SMALL = SelfSupervised(filters=16, width=8)


def jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture)[1].tobytes()


def striped(rng: np.random.Generator, upright: bool) -> np.ndarray:
    """Stripes of random colour, width and phase; `upright` or lying."""
    wave = np.sin(2 * np.pi * (np.arange(32) / rng.uniform(5, 9) + rng.random()))
    colour = rng.uniform(60, 120, 3)
    field = np.broadcast_to(wave if upright else wave[:, None], (32, 32))
    return np.uint8(np.clip(128 + field[..., None] * colour + rng.normal(0, 5, (32, 32, 3)), 0, 255))


def clips(count: int) -> pa.Table:
    rng = np.random.default_rng(0)
    images = [[jpeg(striped(rng, k % 2 == 0))] for k in range(count)]
    return pa.table({"id": [f"{k:03d}" for k in range(count)], "preview.images": images})


def test_a_whole_picture_is_read_as_it_is():
    whole = interpolation(jnp.array([0.0]), jnp.array([1.0]), 8, 8)
    np.testing.assert_allclose(whole[0], np.eye(8), atol=1e-6)
    mirrored = interpolation(jnp.array([1.0]), jnp.array([-1.0]), 8, 8)
    np.testing.assert_allclose(mirrored[0], np.eye(8)[::-1], atol=1e-6)
    half = interpolation(jnp.array([0.5]), jnp.array([0.5]), 8, 4)
    np.testing.assert_allclose(half[0], np.eye(8)[4:], atol=1e-6)


def test_crops_of_a_ramp_are_ramps():
    ramp = jnp.broadcast_to(jnp.linspace(0.0, 1.0, 64)[None, None, :, None], (16, 64, 64, 3))
    crops = np.asarray(random_crops(jax.random.key(0), ramp, 16))
    inner = crops[:, 8, 3:-3, 0]
    slopes = np.diff(inner, axis=1)
    even = np.broadcast_to(slopes.mean(1, keepdims=True), slopes.shape)
    np.testing.assert_allclose(slopes, even, atol=0.2 / 63)  # a triangle sampled at pixels is off by a tenth of one
    assert (slopes[:, 0] > 0).any()  # some are mirrored
    assert (slopes[:, 0] < 0).any()


def test_views_are_functions_of_the_key_and_stay_pictures():
    pictures = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), np.uint8))
    first, again, other = (views(jax.random.key(k), pictures, 16) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (4, 16, 16, 3)
    assert not np.allclose(first, other)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1


def test_patches_have_no_mean_and_unit_variance():
    found = patches(jnp.asarray(np.random.default_rng(0).random((2, 16, 18, 3)), jnp.float32))
    assert found.shape == (2, 6, 7, 108)
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(found.var(-1), 1, atol=0.05)


def test_features_say_where():
    filters = jnp.asarray(np.random.default_rng(0).standard_normal((108, 5)), jnp.float32)
    picture = np.zeros((1, 32, 32, 3), np.float32)
    picture[0, :12, :12] = np.random.default_rng(1).random((12, 12, 3))
    upper_left, *others = np.split(np.asarray(features(filters, jnp.asarray(picture)))[0], 4)
    assert upper_left.max() > 0
    assert max(x.max() for x in others) == 0


def test_the_dictionary_avoids_flat_patches():
    pictures = np.zeros((64, 32, 32, 3), np.uint8)
    pictures[::2] = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3))
    bank = np.asarray(dictionary(pictures, 16, seed=0))
    assert bank.shape == (108, 16)
    assert np.linalg.norm(bank, axis=0).min() > 0


def test_without_a_ridge_the_projection_is_fishers_discriminant(monkeypatch):
    monkeypatch.setattr("diorama.data.embed.patches.RIDGE", 0.0)
    rng = np.random.default_rng(0)
    means, noise = rng.standard_normal((40, 6)), rng.standard_normal((6, 6))
    x = (means[:, None] + 0.3 * rng.standard_normal((40, 50, 6)) @ noise).reshape(-1, 6)
    labels = np.repeat(np.arange(40), 50)
    centres = x.reshape(40, 50, 6).mean(1)
    apart = x - centres[labels]
    ours = discriminant(apart.T @ apart / len(x), np.cov(centres.T, bias=True), 2)
    theirs = LinearDiscriminantAnalysis(solver="eigen", n_components=2).fit(x, labels).scalings_[:, :2]
    cosine = np.linalg.svd(np.linalg.qr(ours)[0].T @ np.linalg.qr(theirs)[0])[1]
    assert cosine.min() > 0.9999  # of the angles between the two planes


def test_what_views_do_not_change_is_kept_and_noise_is_hushed():
    within, between = np.diag([1.0, 100.0, 1.0]), np.diag([50.0, 50.0, 0.0])
    strength = np.linalg.norm(discriminant(within, between, 3), axis=1)
    assert strength[0] > 5 * strength[1]
    assert strength[2] < 1e-6


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    table = clips(200)
    return table, models, SMALL.prepare(models, lambda n: table)(table)


def test_pictures_of_a_kind_are_nearest(fitted):
    _, _, columns = fitted
    vectors = np.stack(columns["vector"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alike = vectors @ vectors.T - 2 * np.eye(200)
    assert ((alike.argmax(1) - np.arange(200)) % 2 == 0).mean() > 0.95


def test_it_is_the_same_encoder_for_clips_that_come_later(fitted):
    table, models, columns = fitted
    later = SMALL.prepare(models, pytest.fail)(table.slice(150))
    np.testing.assert_allclose(np.stack(later["vector"]), np.stack(columns["vector"][150:]), atol=1e-6)
    assert [path.name for path in models.iterdir()] == ["encoder.safetensors"]


def test_it_depends_on_nothing_but_pictures_and_seed(fitted, tmp_path):
    table, _, columns = fitted
    again = SMALL.prepare(tmp_path / "again", lambda n: table)(table)
    np.testing.assert_array_equal(np.stack(again["vector"]), np.stack(columns["vector"]))


def test_a_video_is_the_mean_of_its_previews_and_what_is_not_there_is_null(fitted):
    table, models, columns = fitted
    images = table["preview.images"].to_pylist()
    odd = pa.table({"id": ["a", "b", "c", "d"], "preview.images": [images[0] + images[1], None, [b"none"], []]})
    found = SMALL.prepare(models, pytest.fail)(odd)
    mean = columns["vector"][0] + columns["vector"][1]
    np.testing.assert_allclose(found["vector"][0], mean / np.linalg.norm(mean), atol=1e-5)
    assert found["vector"][1:] == [None] * 3
    assert found["error"] == [None, None, "the preview cannot be decoded", None]


def test_an_encoder_that_fails_is_an_error_of_its_clip():
    lists = pa.chunked_array([[[jpeg(np.zeros((8, 8, 3), np.uint8))]]])
    found = embed(lists, lambda data: np.zeros(1), lambda x: np.full((len(x), 2), np.nan), 4)
    assert found == {"vector": [None], "error": ["the encoder gave numbers that are not finite"]}


def test_too_few_pictures_and_impossible_sizes_are_refused(tmp_path):
    with pytest.raises(UserError, match="3 are too few"):
        SMALL.prepare(tmp_path, lambda n: clips(3))
    with pytest.raises(UserError, match="at least 8 pixels"):
        SelfSupervised(side=6)
    with pytest.raises(UserError, match="at most 8 numbers"):
        SelfSupervised(filters=1, width=9)


def test_shapes_are_those_of_the_configuration():
    blank = Encoder.blank(16, 8)
    assert blank(jnp.zeros((2, 32, 32, 3))).shape == (2, 8)


def test_in_a_catalogue(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for k in range(70):
        write_png(tmp_path / "in" / f"{k}.png", striped(rng, k % 2 == 0))
    curate([tmp_path / "in"], tmp_path / "c", Curation(stages=(Preview(),), derived=(SMALL,)))
    rows = Catalogue(tmp_path / "c").ask("select vector from embedding").to_pylist()
    assert len(rows) == 70
    assert all(abs(np.linalg.norm(row["vector"]) - 1) < 1e-5 for row in rows)
