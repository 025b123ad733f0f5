"""Watermarks of collections: planted marks are found in those that carry them, and nothing where there is none."""

import cv2
import numpy as np
import pyarrow as pa
import pytest

from benchmarks.planted.defects import branded, stored
from benchmarks.planted.originals import synthetic
from diorama.core.errors import UserError
from diorama.data import Catalogue, Curation, Drop, Where, curate
from diorama.data.stages import Preview
from diorama.data.watermarks import Watermarks
from diorama.media import Media, write_png

SEED, SIDE = 8_000_000, 128
PICTURES = [synthetic(np.random.default_rng(SEED + i), size=SIDE)[:SIDE, :SIDE] for i in range(36)]


def table(clips: list[np.ndarray]) -> pa.Table:
    """What the stage reads of clips (t, h, w, 3)."""
    images = [Preview()(Media(clip))["images"] for clip in clips]
    return previews(images)


def previews(images: list) -> pa.Table:
    ids = [f"{k:03d}" for k in range(len(images))]
    return pa.table({"id": ids, "preview.images": pa.array(images, pa.list_(pa.binary()))})


def collection(seed: int, marks: int, share: float) -> tuple[pa.Table, np.ndarray]:
    rng = np.random.default_rng(seed)
    marked, carried = branded(rng, PICTURES, marks, share)
    return table([stored(rng, picture)[None] for picture in marked]), carried


def test_marks_are_found_and_told_apart_and_kept(tmp_path):
    clips, carried = collection(1, 2, 1 / 3)
    columns = Watermarks().prepare(tmp_path, lambda n: clips)(clips)
    scores, marks = np.array(columns["score"]), np.array(columns["mark"])
    assert scores[carried >= 0].min() > 5 > scores[carried < 0].max()
    assert {tuple(set(marks[carried == k])) for k in range(2)} == {(0,), (1,)}
    again = Watermarks().prepare(tmp_path, pytest.fail)(clips.slice(5, 7))  # found once
    assert again["score"] == columns["score"][5:12]


def test_what_comes_later_is_scored_by_the_marks_that_are_known(tmp_path):
    clips, carried = collection(1, 1, 0.5)
    columns = Watermarks().prepare(tmp_path, lambda n: clips.slice(0, 26))(clips)
    scores = np.array(columns["score"])[26:]
    assert 2 < (carried[26:] >= 0).sum() < 9  # some of either
    np.testing.assert_array_equal(scores > 5, carried[26:] >= 0)


def test_a_clip_is_judged_by_all_its_frames(tmp_path):
    rng = np.random.default_rng(3)
    moving = [np.stack([np.roll(picture, (7 * t, 11 * t), (0, 1)) for t in range(4)]) for picture in PICTURES]
    marked, carried = branded(rng, moving, 1, 0.3)
    clips = table(marked)
    scores = np.array(Watermarks().prepare(tmp_path, lambda n: clips)(clips)["score"])
    np.testing.assert_array_equal(scores > 5, carried >= 0)


def test_without_marks_every_score_is_0(tmp_path):
    clips, _ = collection(4, 1, 0)
    columns = Watermarks().prepare(tmp_path, lambda n: clips)(clips)
    assert (set(columns["score"]), set(columns["mark"])) == ({0.0}, {None})


def test_a_mark_of_ones_own_is_not_found(tmp_path):
    rng = np.random.default_rng(5)
    clips = table([stored(rng, branded(rng, [picture], 1, 1.0)[0][0])[None] for picture in PICTURES])
    assert set(Watermarks().prepare(tmp_path, lambda n: clips)(clips)["score"]) == {0.0}


def test_neither_copies_nor_the_ground_of_one_scene_are_marks(tmp_path):
    rng = np.random.default_rng(6)
    copies = [stored(rng, PICTURES[0])[None] for _ in range(12)]
    scene = []
    for k in range(12):  # one still camera: a large thing passes, and the light changes
        frame = PICTURES[1] * rng.uniform(0.6, 1.0)
        y, x = rng.integers(0, SIDE // 2, 2)
        frame[y : y + 50, x : x + 50] = PICTURES[k + 4][:50, :50]
        scene.append(stored(rng, frame.astype(np.uint8))[None])
    clips = table([*copies, *scene, *(picture[None] for picture in PICTURES[16:])])
    assert set(Watermarks().prepare(tmp_path, lambda n: clips)(clips)["score"]) == {0.0}


def test_what_cannot_be_judged_is_null(tmp_path):
    few = [picture[None, :120] for picture in PICTURES[:5]]
    small = [cv2.resize(picture, (60, 60))[None] for picture in PICTURES]
    images = [*table([*few, *small])["preview.images"].to_pylist(), None, [], [b"not a picture"]]
    clips = previews(images)
    columns = Watermarks().prepare(tmp_path, lambda n: clips)(clips)
    assert set(columns["score"]) == set(columns["mark"]) == {None}
    assert [k for k, error in enumerate(columns["error"]) if error] == [len(images) - 1]


def test_too_few_to_confirm_a_mark_by():
    with pytest.raises(UserError, match="least >= 4"):
        Watermarks(least=3)
    with pytest.raises(UserError, match="examples >= least"):
        Watermarks(examples=7)


def test_curation_leaves_out_what_carries_a_mark(tmp_path):
    marked, carried = branded(np.random.default_rng(1), PICTURES, 1, 0.4)
    for k, picture in enumerate(marked):
        write_png(tmp_path / "pictures" / f"{k:02d}.png", picture)
    policy = Curation(
        stages=(Preview(),),
        derived=(Watermarks(),),
        rules=(Drop("watermarked", (Where("watermark.score", above=5.0),)),),
    )
    curate([tmp_path / "pictures"], tmp_path / "out", policy)
    rows = Catalogue(tmp_path / "out").ask("select location, reason from ledger").to_pylist()
    dropped = {int(row["location"].split(".")[0][-2:]) for row in rows if row["reason"] == "watermarked"}
    assert dropped == set(np.flatnonzero(carried >= 0).tolist())
