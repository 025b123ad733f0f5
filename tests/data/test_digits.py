import json

import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.data import Catalogue, ClipSource, curate
from diorama.data.digits import DIRECTIONS, caption, write_digits
from diorama.media import read


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("digits") / "media", clips=180, stills=90)


@pytest.fixture(scope="module")
def rows(folder):
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_captions():
    assert caption([7], ["left"]) == "a seven moving left"
    assert caption([3, 9], ["up", "right"]) == "a three moving up and a nine moving right"
    assert caption([7]) == "a seven"
    assert caption([3, 8]) == "a three and an eight"


def test_every_file_is_said_and_said_fully(folder, rows):
    assert {r["file_name"] for r in rows} == {
        str(p.relative_to(folder)) for p in folder.rglob("*.*") if p.parent != folder
    }
    for row in rows:
        assert row["caption"] == caption(row["digits"], row.get("directions"))
        assert row["label"] == row["digits"][0]
        if "actions" in row:
            assert row["actions"] == [0] + [DIRECTIONS.index(row["directions"][0]) + 1] * 8


def test_splits_share_no_digit_image(rows):
    test, train = ({r["group"] for r in rows if r["split"] == split} for split in ("test", "train"))
    assert not test & train
    assert 0.09 < sum(r["split"] == "test" for r in rows) / len(rows) < 0.13
    assert 0.1 < np.mean([len(r["digits"]) == 2 for r in rows]) < 0.3


def test_digits_move_as_told_and_stay_inside(folder, rows):
    toward = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
    for row in [r for r in rows if "actions" in r and len(r["digits"]) == 1][:60]:
        media = read(folder / row["file_name"])
        assert media.frames.shape == (9, 32, 32, 3)
        assert media.rate == 8
        ink = media.frames[..., 0] / 255
        weight = ink.sum((1, 2))
        assert weight.std() / weight.mean() < 0.02  # no ink leaves the picture
        y, x = np.mgrid[:32, :32]
        path = np.stack([(ink * axis).sum((1, 2)) / weight for axis in (y, x)], axis=-1)
        steps = np.diff(path, axis=0)
        along = steps @ np.array(toward[row["directions"][0]])
        assert abs(np.median(along) - 1) < 1e-6  # a pixel a frame, on whole pixels
        assert np.all(np.abs(along - 1) < 0.25)  # but the picture's edge cuts what the cubic adds to a stroke
        assert along.std() < 0.1
        assert np.abs(steps).min(axis=1).max() < 0.1


def test_writing_again_is_no_work_and_other_digits_are_refused(folder):
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    write_digits(folder, clips=180, stills=90)
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(UserError, match="other media"):
        write_digits(folder, clips=180, stills=90, seed=1)


def test_the_same_seed_writes_the_same_bytes(folder, tmp_path):
    again = write_digits(tmp_path / "again", clips=18, stills=9)
    for path in again.rglob("*.*"):
        if path.parent != again:
            assert path.read_bytes() == (folder / path.relative_to(again)).read_bytes()


def test_they_can_be_curated_without_loss(folder, rows, tmp_path):
    summary = curate([folder], tmp_path / "c")
    assert summary.clips + sum(summary.dropped.values()) == 270
    assert set(summary.dropped) <= {"same pixels as another clip", "same bytes as another clip"}
    source = ClipSource(Catalogue(tmp_path / "c"), "test", 9, 32, 32)
    assert len(source) == sum(r["split"] == "test" and "actions" in r for r in rows)
    frames = read(source.row(0)["location"]).frames
    np.testing.assert_array_equal(source[0]["media"], frames)
