"""Files cut into clips: views on the same bytes, each a clip to stages, rules, splits, training and export."""

import zipfile

import numpy as np
import pytest

from diorama.data import Catalogue, ClipSource, Curation, Drop, Where, curate, judge
from diorama.data.export import export
from diorama.data.rehearse import rehearse
from diorama.data.stages import Shots
from diorama.media import read, write_mp4, write_png
from tests.data.toy import Bright, Fatal, Halves

RATE = 8.0
FRAMES = np.random.default_rng(0).integers(0, 100, (20, 16, 16, 3), np.uint8)
FRAMES[8:] += 100  # where Halves cuts
ROWS = "select location, id, asset, start, t from observations join decisions using (location, id) order by location"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "in"
    path.mkdir()
    write_mp4(path / "two.mp4", FRAMES, RATE, lossless=True)
    (path / "two.txt").write_text("two scenes")
    write_mp4(path / "one.mp4", FRAMES[:6], RATE, lossless=True)
    write_png(path / "still.png", FRAMES[0])
    return path


def policy(**options) -> Curation:
    return Curation(cut=Halves(), stages=(Bright(),), **options)


def names(out) -> list[str]:
    return sorted(location.rsplit("/", 1)[1] for location in Catalogue(out).clips()["location"].to_pylist())


def test_every_part_is_a_clip_and_the_file_has_its_reason(folder, tmp_path):
    summary = curate([folder], tmp_path / "c", policy())
    assert names(tmp_path / "c") == ["one.mp4", "still.png", "two.mp4@0-8", "two.mp4@8-20"]
    assert summary.examples == {"cut into clips": [str(folder / "two.mp4")]}
    rows = Catalogue(tmp_path / "c").ask(ROWS).to_pylist()
    whole, first, second = [row for row in rows if "two.mp4" in row["location"]]
    assert (first["asset"], first["start"], first["t"]) == (whole["id"], 0.0, 8)
    assert (second["asset"], second["start"], second["t"]) == (whole["id"], 1.0, 12)
    assert len({row["id"] for row in rows}) == 5
    clips = Catalogue(tmp_path / "c").clips().to_pylist()
    assert {clip["caption"] for clip in clips if clip["asset"]} == {"two scenes"}


def test_stages_and_rules_see_the_parts(folder, tmp_path):
    bright = Drop("bright", (Where("bright.mean", above=100.0),))
    curate([folder], tmp_path / "c", policy(rules=(bright,)))
    assert names(tmp_path / "c") == ["one.mp4", "still.png", "two.mp4@0-8"]
    asked = "select mean, value from decisions join bright using (id) where reason = 'bright'"
    [row] = Catalogue(tmp_path / "c").ask(asked).to_pylist()
    assert row["mean"] == pytest.approx(FRAMES[8:].mean()) == row["value"]
    measured = Catalogue(tmp_path / "c").ask("select count(*) as n from bright")["n"].to_pylist()
    assert measured == [4]  # not the file that was cut


def test_training_gets_exactly_their_frames(folder, tmp_path):
    curate([folder], tmp_path / "c", policy(test_share=0.0))
    source = ClipSource(Catalogue(tmp_path / "c"), None, frames=8, height=16, width=16)
    found = {source.row(i)["location"].rsplit("/", 1)[1]: source[i]["media"] for i in range(len(source))}
    np.testing.assert_array_equal(found["two.mp4@0-8"], FRAMES[:8])
    np.testing.assert_array_equal(found["two.mp4@8-20"], FRAMES[8:16])


def test_parts_of_one_file_share_a_split(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(20):
        frames = np.random.default_rng(k).integers(0, 100, FRAMES.shape, np.uint8)
        frames[8:] += 100
        write_mp4(folder / f"{k}.mp4", frames, RATE, lossless=True)
    curate([folder], tmp_path / "c", policy(test_share=0.5))
    splits: dict[str, set[str]] = {}
    for clip in Catalogue(tmp_path / "c").clips().to_pylist():
        splits.setdefault(clip["asset"], set()).add(clip["split"])
    assert len(splits) == 20
    assert all(len(names) == 1 for names in splits.values())
    assert {name for names in splits.values() for name in names} == {"train", "test"}


def test_nothing_new_is_no_work_and_other_cuts_replace_these(folder, tmp_path):
    out = tmp_path / "c"
    before = curate([folder], out, policy())
    assert before.new == 3 + 2  # three files, then two parts
    after = curate([folder], out, policy())
    assert (after.new, after.hash) == (0, before.hash)
    curate([folder], out, Curation(cut=Halves(level=250), stages=(Bright(),)))
    assert names(out) == ["one.mp4", "still.png", "two.mp4"]
    assert curate([folder], out, policy()).hash == before.hash


def test_people_judge_parts_and_ask_why(folder, tmp_path):
    out = tmp_path / "c"
    curate([folder], out, policy())
    [part] = [clip for clip in Catalogue(out).clips().to_pylist() if clip["location"].endswith("@8-20")]
    judge(out, [(part["id"], "drop", "dull")], "ann")
    curate([folder], out, policy())
    assert names(out) == ["one.mp4", "still.png", "two.mp4@0-8"]
    [told] = Catalogue(out).explain("two.mp4@8-20")
    assert "drop (ann): dull" in str(told)
    assert "cut into clips: halves.starts 2" in str(Catalogue(out).explain("two.mp4")[0])


def test_exported_they_are_files(folder, tmp_path):
    curate([folder], tmp_path / "c", policy(test_share=0.0))
    assert export(Catalogue(tmp_path / "c"), tmp_path / "out", "folder") == 4
    [part] = [clip for clip in Catalogue(tmp_path / "c").clips().to_pylist() if clip["location"].endswith("@8-20")]
    media = read(next((tmp_path / "out").rglob(f"{part['id']}.mp4")))
    assert media.frames.shape == FRAMES[8:].shape
    assert media.rate == RATE
    assert np.abs(media.frames.mean((1, 2, 3)) - FRAMES[8:].mean((1, 2, 3))).max() < 3


def test_out_of_an_archive_they_carry_their_bytes(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as file:
        file.write(folder / "two.mp4", "two.mp4")
    curate([tmp_path / "in.zip"], tmp_path / "c", policy(test_share=0.0))
    (tmp_path / "in.zip").unlink()
    source = ClipSource(Catalogue(tmp_path / "c"), None, frames=12, height=16, width=16)
    np.testing.assert_array_equal(source[0]["media"], FRAMES[8:])


def test_a_file_that_goes_takes_its_parts_along(folder, tmp_path):
    curate([folder], tmp_path / "c", policy())
    (folder / "two.mp4").unlink()
    curate([folder], tmp_path / "c", policy())
    assert names(tmp_path / "c") == ["one.mp4", "still.png"]


def test_size_and_length_are_measures(folder, tmp_path):
    write_png(folder / "small.png", np.zeros((8, 20, 3), np.uint8))
    small, short = Drop("small", (Where("clip.side", below=16),)), Drop("short", (Where("clip.seconds", below=0.8),))
    curate([folder], tmp_path / "c", policy(rules=(small, short)))
    assert names(tmp_path / "c") == ["still.png", "two.mp4@0-8", "two.mp4@8-20"]


def test_a_stage_that_dies_costs_its_measure_and_not_the_file(folder, tmp_path):
    summary = curate([folder], tmp_path / "c", Curation(stages=(Fatal(),)))
    assert not summary.dropped
    assert names(tmp_path / "c") == ["one.mp4", "still.png", "two.mp4"]
    errors = Catalogue(tmp_path / "c").ask("select error from fatal")["error"].to_pylist()
    assert errors == ["the decoder crashed"] * 3


def test_shots_cut_real_scenes(tmp_path):
    y, x = np.mgrid[:72, :128]
    scenes = [
        np.uint8([127 + 120 * np.sin((x * a + y * b + 2 * k) / 9.0) for k in range(24)]) for a, b in ((1, 2), (3, -1))
    ]
    frames = np.repeat(np.concatenate(scenes)[..., None], 3, -1)
    folder = tmp_path / "in"
    folder.mkdir()
    write_mp4(folder / "film.mp4", frames, 24.0)
    curate([folder], tmp_path / "c", Curation(cut=Shots(longest=0.5)))
    assert names(tmp_path / "c") == [f"film.mp4@{s}-{s + 12}" for s in (0, 12, 24, 36)]


def test_other_cuts_leave_no_verdict_behind(folder, tmp_path):
    out = tmp_path / "c"
    bright = Drop("bright", (Where("bright.mean", above=100.0),))
    curate([folder], out, policy(rules=(bright,)))
    summary = curate([folder], out, Curation(cut=Halves(level=250), stages=(Bright(),)))
    assert not summary.dropped
    kept = Catalogue(out).ask("select location from decisions where verdict = 'keep'")["location"].to_pylist()
    assert sorted(location.rsplit("/", 1)[1] for location in kept) == ["one.mp4", "still.png", "two.mp4"]


def test_the_edge_of_a_rule_shows_the_part(folder, tmp_path):
    list(rehearse([folder], tmp_path / "c", policy(rules=(Drop("bright", (Where("bright.mean", above=100.0),)),))))
    sheet = read(tmp_path / "c" / "dry-run" / "bright.png").frames[0]
    assert abs(float(sheet[20:100, 20:100].mean()) - FRAMES[8].mean()) < 8  # not that of the file's first frame
