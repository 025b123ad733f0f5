"""Near-duplicates: each kind of copy is found, nothing else is, and groups do not chain."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from benchmarks.planted.copies import CHANGES, KINDS, decode, encode, plant
from benchmarks.planted.originals import synthetic
from diorama.data.duplicates import Duplicate, near_duplicates
from diorama.data.duplicates.alignment import box_map, lay
from diorama.data.duplicates.groups import Found
from diorama.data.stages.hashes import signature
from diorama.media import Media

Signature = tuple[np.ndarray, np.ndarray]
SAME = box_map(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 1, 1]]))


def still(picture: np.ndarray) -> Signature:
    return signature(Media(picture[None]))


def find(signatures: Sequence[Signature], rank: np.ndarray | None = None, mirrored: bool = True) -> list[Duplicate]:
    ids = [f"{k:03d}" for k in range(len(signatures))]
    rank = np.zeros((len(ids), 1)) if rank is None else rank
    hashes, thumbnails = [x[0] for x in signatures], [x[1] for x in signatures]
    found = near_duplicates(ids, hashes, thumbnails, rank, mirrored=mirrored)
    assert found.skipped == 0
    return found.duplicates


def pairs(found: Sequence[Duplicate]) -> set[tuple[int, int]]:
    return {(int(x.representative), int(x.id)) for x in found}


@pytest.fixture(scope="module")
def planted() -> list[Signature]:
    pictures = [synthetic(np.random.default_rng([5, k]), size=160) for k in range(2 * len(KINDS))]
    return [still(decode(file.data)) for file in plant(pictures, np.random.default_rng(0))]


def test_every_kind_of_copy_is_found_and_nothing_else(planted: list[Signature]) -> None:
    n = len(planted) // 2
    found = find(planted)
    truth = {(k, n + k) for k in range(n)}
    assert pairs(found) <= truth
    missed = {KINDS[i % len(KINDS)] for i, _ in truth - pairs(found)}
    assert missed <= {"cropped 10-18 %"}
    for x in found:
        assert x.distance <= 16
        assert 0.8 <= x.score <= 1.001
        assert x.share == 1


def test_order_of_rows_does_not_change_groups(planted: list[Signature]) -> None:
    order = np.random.default_rng(0).permutation(len(planted))
    ids = [f"{k:03d}" for k in range(len(planted))]
    rank = np.array([len(planted[k][1]) for k in range(len(planted))])[:, None]
    shuffled = near_duplicates(
        [ids[k] for k in order], [planted[k][0] for k in order], [planted[k][1] for k in order], rank[order]
    )
    assert pairs(shuffled.duplicates) == pairs(find(planted))
    assert {(d.representative, d.id) for d in shuffled.duplicates} <= set(shuffled.pairs)


def test_mirrored_copies_only_where_asked() -> None:
    picture = synthetic(np.random.default_rng(3), size=128)
    signatures = [still(picture), still(np.ascontiguousarray(picture[:, ::-1]))]
    assert pairs(find(signatures)) == {(0, 1)}
    assert not find(signatures, mirrored=False)


def test_rank_chooses_the_representative() -> None:
    picture = synthetic(np.random.default_rng(4), size=128)
    signatures = [still(decode(encode(picture, quality))) for quality in (40, 60, 80)]
    assert pairs(find(signatures)) == {(0, 1), (0, 2)}
    assert pairs(find(signatures, np.array([[1, 5], [2, 0], [2, 3]]))) == {(2, 0), (2, 1)}


def test_equal_copies_are_one_group() -> None:
    signatures = [still(synthetic(np.random.default_rng(4), size=128))] * 200
    assert pairs(find(signatures)) == {(0, k) for k in range(1, 200)}


def test_groups_do_not_chain() -> None:
    wide = synthetic(np.random.default_rng(6), size=200)[:200, :200]
    windows = [still(wide[:, x : x + 130]) for x in range(0, 71, 14)]  # each nearly the next, the ends far apart
    found = pairs(find(windows))
    assert found
    assert (0, 5) not in found
    assert not {i for i, _ in found} & {j for _, j in found}
    assert all(pairs(find([windows[i], windows[j]])) for i, j in found)


def test_verifier_tells_pictures_apart() -> None:
    thumbnails = [still(synthetic(np.random.default_rng(k), smooth=k % 3 == 0, size=128))[1] for k in range(12)]
    first = np.concatenate([a for a in thumbnails for _ in thumbnails])
    second = np.concatenate([b for _ in thumbnails for b in thumbnails])
    scores = lay(first, second, np.repeat(SAME, len(first), 0)).scores.reshape(12, 12)
    assert (np.diag(scores) > 0.99).all()
    assert scores[~np.eye(12, dtype=bool)].max() < 0.6


def test_verifier_takes_pictures_that_all_differ() -> None:
    thumbnails = [still(synthetic(np.random.default_rng(k), size=128))[1] for k in range(2)]
    assert lay(thumbnails[0], thumbnails[1], SAME).scores[0] < 0.6
    noise = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), np.uint8)
    np.testing.assert_array_equal(lay(noise[0], noise[1], np.repeat(SAME, 3, 0)).scores, 0)


def test_verifier_finds_the_map() -> None:
    thumbnail = still(synthetic(np.random.default_rng(1), size=256)[:256, :256])[1]
    matrix = np.array([[1.06, 0.04, 1.5], [-0.03, 0.95, -2.0]], np.float32)
    moved = cv2.warpAffine(thumbnail[0], matrix, (64, 64), flags=cv2.INTER_LINEAR)[None]
    fit = lay(thumbnail, moved, SAME)
    assert fit.scores[0] > 0.9
    np.testing.assert_allclose(fit.maps[0, :, :2], matrix[:, :2], atol=0.01)


def test_flat_tiny_and_no_pictures() -> None:
    odd = [np.full((*shape, 3), shade, np.uint8) for shape in [(1, 1), (1, 90), (64, 64)] for shade in (0, 128, 255)]
    noise = np.random.default_rng(0).integers(0, 256, (1, 1, 3), dtype=np.uint8)
    assert find([still(picture) for picture in [*odd, noise]]) == []
    assert near_duplicates([], [], [], np.zeros((0, 1))) == Found([], [], 0)
    with pytest.raises(ValueError, match="distinct"):
        near_duplicates(["a", "a"], [], [], np.zeros((2, 1)))


def video(seed: int, start: float, seconds: float, rate: float, size: int = 96) -> Media:
    """A camera that moves over a large picture, a scene a seed."""
    scene = synthetic(np.random.default_rng([9, seed]), size=4 * size)
    frames = []
    for s in start + np.arange(int(seconds * rate)) / rate:
        x, y = 14 * s, 40 + 20 * np.sin(s / 2)
        frames.append(cv2.getRectSubPix(scene, (size, size), (size / 2 + x, size / 2 + y)))
    return Media(np.stack(frames), rate)


def test_videos_match_in_order_at_other_rates_and_shifts() -> None:
    film = video(0, 0, 9, 8.0)
    copies = [
        video(0, 0, 9, 12.5),
        Media(np.stack([CHANGES["toned"](np.random.default_rng(1), frame) for frame in film.frames]), 8.0),
        video(0, 2, 7, 10.0),
    ]
    other = video(1, 0, 9, 8.0)
    backwards = Media(film.frames[::-1].copy(), 8.0)
    shot = [signature(x) for x in (film, *copies, other, backwards, video(0, 0, 0.5, 8.0))]
    found = find(shot)
    assert pairs(found) == {(0, 1), (0, 2), (0, 3)}
    assert all(x.share >= 0.6 for x in found)


def stage(seed: int, seconds: float, rate: float) -> Media:
    """A camera that stands still before one scene; what moves through it is another matter with each seed."""
    scene = synthetic(np.random.default_rng(20), size=96)[:96, :96]
    rng = np.random.default_rng([21, seed])
    at, speed = rng.uniform(10, 80, 2), rng.uniform(-14, 14, 2)
    frames = []
    for s in np.arange(int(seconds * rate)) / rate:
        x, y = np.abs((at + speed * s) % 160 - 80)
        frames.append(cv2.circle(scene.copy(), (int(x), int(y)), 9, (240, 230, 40), -1))
    return Media(np.stack(frames), rate)


def test_clips_of_one_still_camera_are_not_copies() -> None:
    clips = [stage(0, 8, 8.0), stage(1, 8, 8.0), stage(2, 8, 8.0), stage(0, 8, 12.0)]
    assert pairs(find([signature(clip) for clip in clips])) == {(0, 3)}
