"""Perceptual hashes stay near under what copies go through, and far otherwise."""

import cv2
import numpy as np
import pytest

from benchmarks.planted.originals import synthetic
from diorama.data.stages.hashes import BOXES, MIRRORED, SIDE, WHOLE, hash_thumbnails, hashes, signature, thumbnail
from diorama.media import Media

PICTURES = [synthetic(np.random.default_rng(k), size=128) for k in range(8)]


def apart(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.bitwise_count(a ^ b))


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def test_shapes() -> None:
    assert hashes(PICTURES[0]).shape == (len(BOXES),) == (12,)
    assert hashes(PICTURES[0]).dtype == np.uint64
    assert thumbnail(PICTURES[0]).shape == (SIDE, SIDE)
    batch = np.stack([thumbnail(picture) for picture in PICTURES])
    np.testing.assert_array_equal(hash_thumbnails(batch), [hashes(picture) for picture in PICTURES])


@pytest.mark.parametrize("picture", PICTURES)
def test_copies_are_near(picture: np.ndarray) -> None:
    whole = hashes(picture)[WHOLE]
    small = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    dark = (picture * 0.7).astype(np.uint8)
    barred = cv2.copyMakeBorder(picture, 16, 16, 0, 0, cv2.BORDER_CONSTANT)
    for copy in (small, jpeg(picture, 30), dark, barred):
        assert apart(whole, hashes(copy)[WHOLE]) <= 8


def test_different_pictures_are_far() -> None:
    whole = [hashes(picture)[WHOLE] for picture in PICTURES]
    assert min(apart(a, b) for i, a in enumerate(whole) for b in whole[:i]) > 12


@pytest.mark.parametrize("picture", PICTURES)
def test_mirrored_hash_is_that_of_the_mirrored_picture(picture: np.ndarray) -> None:
    mirrored = hashes(np.ascontiguousarray(picture[:, ::-1]))
    assert apart(hashes(picture)[MIRRORED], mirrored[WHOLE]) <= 1
    assert apart(hashes(picture)[WHOLE], mirrored[MIRRORED]) <= 1


def test_parts_meet_crops() -> None:
    for picture in PICTURES:
        h, w, _ = picture.shape
        crop = hashes(picture[: round(0.88 * h), round(0.06 * w) : round(0.95 * w)])
        assert np.bitwise_count(hashes(picture)[:, None] ^ crop).min() <= 10


def test_bars_are_cut_off_unless_all_is_one() -> None:
    picture = PICTURES[0]
    framed = cv2.copyMakeBorder(picture, 20, 20, 30, 30, cv2.BORDER_CONSTANT, value=(16, 16, 16))
    assert np.abs(thumbnail(framed).astype(int) - thumbnail(picture)).mean() < 2
    assert (thumbnail(np.full((40, 60, 3), 99, np.uint8)) == 99).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (2, 2), (3, 5000)])
def test_flat_and_odd_pictures_have_no_hash_or_an_odd_one(shape: tuple[int, int]) -> None:
    assert not hashes(np.full((*shape, 3), 200, np.uint8)).any()
    noise = hashes(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    assert ((noise == 0) | (noise % 2 == 1)).all()


def test_video_is_sampled_every_second_whatever_its_rate() -> None:
    still, thumbnails = signature(Media(PICTURES[0][None]))
    assert (still.shape, thumbnails.shape) == ((1, 12), (1, SIDE, SIDE))
    for rate in (0.5, 8.0, 12.5, 29.97):
        seconds = np.arange(max(int(5 * rate), 1)) / rate
        frames = np.stack([np.full((8, 8, 3), int(s), np.uint8) for s in seconds])
        _, thumbnails = signature(Media(frames, rate))
        expected = np.minimum(np.arange(0, len(frames), max(rate, 1)).round(), len(frames) - 1) / rate
        np.testing.assert_array_equal(thumbnails[:, 0, 0], expected.astype(int))
