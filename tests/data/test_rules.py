"""Stages measure, rules and people decide; every verdict can be explained and taken back."""

import numpy as np
import pytest
from PIL import Image

from diorama.core.errors import UserError
from diorama.data import Catalogue, Curation, Drop, Percentile, Where, curate, judge
from diorama.data.curation import Examination
from diorama.data.rehearse import CELL, rehearse
from diorama.data.stages import Technical
from diorama.media import read, write_mp4, write_png
from tests.data.make import media_folder
from tests.data.toy import Bright, Picky, Relative, Wrong

LEVELS = (10, 40, 80, 120, 200, 250)


@pytest.fixture
def greys(tmp_path):
    """Pictures of one grey each, and a video of two."""
    folder = tmp_path / "greys"
    folder.mkdir()
    for level in LEVELS:
        write_png(folder / f"grey{level}.png", np.full((8, 8, 3), level, np.uint8))
    frames = np.repeat(np.uint8([100, 140]), 8 * 8 * 3).reshape(2, 8, 8, 3)
    write_mp4(folder / "two.mp4", frames, 8.0, lossless=True)
    return folder


def dark(limit) -> Curation:
    return Curation(stages=(Bright(),), rules=(Drop("dark", (Where("bright.mean", below=limit),)),))


def names(out) -> set[str]:
    return {location.rsplit("/", 1)[1] for location in Catalogue(out).clips()["location"].to_pylist()}


def test_a_stage_measures_every_clip(greys, tmp_path):
    curate([greys], tmp_path / "c", Curation(stages=(Bright(), Picky())))
    rows = (
        Catalogue(tmp_path / "c")
        .ask(
            "select location, bright.*, picky.height, picky.error as failed from observations join bright using (id) "
            "join picky using (id) order by mean"
        )
        .to_pylist()
    )
    stills = [r for r in rows if r["location"].endswith("png")]
    assert [r["mean"] for r in stills] == list(LEVELS)
    assert [r["most"] for r in stills] == list(LEVELS)
    assert all(r["missing"] is None and r["error"] is None and r["height"] == 8 for r in stills)
    [video] = [r for r in rows if r["location"].endswith("mp4")]
    np.testing.assert_allclose(video["frames"], [100, 140], atol=1)
    assert "ValueError" in video["failed"]
    assert len(names(tmp_path / "c")) == 7  # a stage that fails leaves nothing out by itself


def test_a_rule_leaves_out_with_its_measure_value_and_threshold(greys, tmp_path):
    out = tmp_path / "c"
    curate([greys], out, dark(50))
    assert names(out) == {"grey80.png", "grey120.png", "grey200.png", "grey250.png", "two.mp4"}
    [row] = Catalogue(out).ask("select * from decisions where location like '%grey40.png'").to_pylist()
    assert (row["verdict"], row["reason"], row["metric"]) == ("drop", "dark", "bright.mean")
    assert (row["value"], row["threshold"], row["actor"]) == (40, 50, "rule")
    assert row["policy"] == dark(50).fingerprint
    assert (out / "policies" / f"{row['policy']}.txt").read_text() == dark(50).text()


def test_a_changed_threshold_looks_at_no_clip_again(greys, tmp_path):
    out = tmp_path / "c"
    first = curate([greys], out, dark(50))
    second = curate([greys], out, dark(100))
    assert (first.new, second.new) == (7, 0)
    assert names(out) == {"grey120.png", "grey200.png", "grey250.png", "two.mp4"}
    third = curate([greys], out, dark(50))
    assert third.hash == first.hash
    [explanation] = Catalogue(out).explain("grey80.png")
    assert [row["verdict"] for row in explanation.history] == ["keep", "drop", "keep"]


def test_a_percentile_is_of_all_sound_clips(greys, tmp_path):
    curate([greys], tmp_path / "c", dark(Percentile(50)))
    assert names(tmp_path / "c") == {"grey120.png", "two.mp4", "grey200.png", "grey250.png"}  # the median stays


def test_the_first_rule_that_holds_is_the_reason(greys, tmp_path):
    both = (Where("bright.mean", below=100), Where("bright.most", above=50))
    rules = (Drop("middling", both), Drop("dark", (Where("bright.mean", below=90),)))
    curate([greys], tmp_path / "c", Curation(stages=(Bright(),), rules=rules))
    rows = Catalogue(tmp_path / "c").ask("select location, reason from decisions where verdict = 'drop'").to_pylist()
    reasons = {row["location"].rsplit("/", 1)[1]: row["reason"] for row in rows}
    assert reasons == {"grey10.png": "dark", "grey40.png": "dark", "grey80.png": "middling"}


def test_a_null_measure_decides_nothing(greys, tmp_path):
    rule = Drop("none", (Where("bright.missing", below=1e9),))
    assert curate([greys], tmp_path / "c", Curation(stages=(Bright(),), rules=(rule,))).clips == 7


def test_a_stage_looks_only_at_what_it_has_no_row_for(greys, tmp_path):
    out = tmp_path / "c"
    assert curate([greys], out).new == 7
    assert curate([greys], out, Curation(stages=(Bright(),))).new == 7
    assert curate([greys], out, Curation(stages=(Bright(),))).new == 0
    assert curate([greys], out, Curation(stages=(Bright(2.0),))).new == 7  # other parameters, other values
    assert Catalogue(out).ask("select max(mean) as most from bright")["most"].to_pylist() == [500]
    write_png(greys / "more.png", np.full((8, 8, 3), 60, np.uint8))
    assert curate([greys], out, Curation(stages=(Bright(2.0), Picky()))).new == 8
    assert curate([greys], out, Curation(stages=(Bright(2.0), Picky()))).new == 0


def test_strips_are_measured_as_videos(tmp_path):
    folder = media_folder(tmp_path / "media", stills=0, videos=0)
    strip = np.concatenate([np.full((8, 8, 3), level, np.uint8) for level in (10, 20, 30)], axis=1)
    write_png(folder / "strip.png", strip)
    (folder / "metadata.jsonl").write_text('{"file_name": "strip.png", "frame_width": 8}\n')
    out = tmp_path / "c"
    curate([folder], out)
    curate([folder], out, Curation(stages=(Bright(),)))
    assert Catalogue(out).ask("select frames from bright")["frames"].to_pylist() == [[10, 20, 30]]


def test_people_overrule_rules(greys, tmp_path):
    out = tmp_path / "c"
    curate([greys], out, dark(50))
    ids = {row["location"].rsplit("/", 1)[1]: row["id"]
           for row in Catalogue(out).ask("select id, location from observations").to_pylist()}  # fmt: skip
    judge(out, [(ids["grey10.png"], "keep", "a fine night"), (ids["grey250.png"], "drop", None)], "ada")
    assert curate([greys], out, dark(50)).new == 0
    assert names(out) == {"grey10.png", "grey80.png", "grey120.png", "grey200.png", "two.mp4"}
    [explanation] = Catalogue(out).explain(ids["grey10.png"])
    assert [(row["verdict"], row["actor"]) for row in explanation.history] == [("drop", "rule"), ("keep", "ada")]
    assert "a fine night" in str(explanation)
    judge(out, [(ids["grey10.png"], "undo", None)], "ada")
    curate([greys], out, dark(50))
    assert "grey10.png" not in names(out)
    with pytest.raises(UserError, match="no clip"):
        judge(out, [("nothing", "keep", None)], "ada")
    with pytest.raises(UserError, match="no verdict"):
        judge(out, [(ids["grey10.png"], "maybe", None)], "ada")


def test_examine_writes_no_verdict(greys, tmp_path):
    out = tmp_path / "c"
    look = Examination([greys], out, dark(50))
    decision = look.decide()
    assert look.new == 7
    assert decision.cuts() == {"dark": 2}
    assert decision.con.execute("select id is not null, threshold from cut").fetchall() == [(True, 50.0)] * 2
    assert not (out / "decisions").exists()
    assert not (out / "catalogue.json").exists()


def test_a_rehearsal_shows_whole_frames(tmp_path):
    (tmp_path / "in").mkdir()
    for level in (40, 200):
        wide = np.full((45, 160, 3), level, np.uint8)
        wide[:, :20] = wide[:, -20:] = 0  # bars, which a square out of the middle would not show
        write_png(tmp_path / "in" / f"{level}.png", wide)
    list(rehearse([tmp_path / "in"], tmp_path / "c", dark(50)))
    cell = read(tmp_path / "c" / "dry-run" / "dark.png").frames[0][4 : 4 + CELL, 4 : 4 + CELL, 0]
    row = cell[CELL // 2]
    assert (row[:12].max(), row[-12:].max()) == (0, 0)
    assert set(row[20:-20].tolist()) == {40}
    shown = np.flatnonzero(cell[:, CELL // 2] == 40)
    assert len(shown) == 36  # 45 of 160, at 128
    assert shown[0] == CELL - 1 - shown[-1]  # in the middle


def test_a_rehearsal_shows_the_edge_and_decides_nothing(greys, tmp_path):
    out = tmp_path / "c"
    lines = list(rehearse([greys], out, dark(50)))
    assert lines[0] == "7 sound clips, of which 5 would be kept"
    assert lines[1] == "  dark: 2 clips (28.6%)"
    assert "bright.mean, threshold 50" in lines[2]
    sheet = read(out / "dry-run" / "dark.png").frames[0]
    cell = CELL + 4
    assert [int(sheet[CELL // 2, 4 + x * cell + CELL // 2, 0]) for x in range(3)] == [40, 10, 255]  # the nearest first
    below = [int(sheet[CELL // 2 + CELL + 20, 4 + x * cell + CELL // 2, 0]) for x in range(2)]
    assert below[0] == 80
    assert not (out / "decisions").exists()
    assert curate([greys], out, dark(50)).new == 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Drop("x", Where("bright.mean", below=1)), r"rule 'x' needs a tuple of conditions, as \(Where"),
        (lambda: Drop("x", ()), "needs a tuple of conditions"),
        (lambda: Drop("x", ("bright.mean < 1",)), "needs a tuple of conditions"),
        (lambda: Curation(rules=(Where("clip.t", below=1),)), r"is no rule, .*: write Drop\('its reason', \(Where"),
        (lambda: Curation(rules=Drop("x", (Where("clip.t", below=1),))), r"tuple of rules, as \(Drop\(...\),\)"),
        (lambda: Curation(stages=Bright()), r"tuple of stages, as \(Bright\(...\),\)"),
        (lambda: Curation(stages=(Bright,)), r"Bright is a class: write Bright\(\)"),
        (lambda: Curation(stages=("bright",)), "'bright' is no stage, for want of name, version"),
        (lambda: Curation(stages=(Relative(),)), "is no stage, for want of __call__"),
        (lambda: Curation(cut="shots"), "'shots' is no stage"),
        (lambda: Curation(derived=(Bright(),)), "is no derived stage, for want of reads, prepare"),
        (lambda: Curation(balance=(Bright(),)), "is no balance, for want of reads, weights"),
    ],
)
def test_what_is_of_another_kind_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(UserError, match=r"did you mean bright\.mean"):
        Curation(stages=(Bright(),), rules=(Drop("x", (Where("bright.meen", below=1),)),))
    with pytest.raises(UserError, match=r"the nearest are (\S+, ){4}\S+$"):
        Curation(stages=(Technical(),), caption=("vlm.caption",))
    with pytest.raises(UserError, match="two rules"):
        Curation(stages=(Bright(),), rules=dark(1).rules * 2)
    with pytest.raises(UserError, match="either below= or above="):
        Where("bright.mean")
    with pytest.raises(UserError, match=r"stage\.measure"):
        Where("mean", below=1)
    with pytest.raises(UserError, match="between 0 and 100"):
        Percentile(101)


def test_why_names_nothing(greys, tmp_path):
    curate([greys], tmp_path / "c")
    with pytest.raises(UserError, match="has seen no clip"):
        Catalogue(tmp_path / "c").explain("other.png")


def test_a_percentile_of_what_no_clip_has_leaves_nothing_out(greys, tmp_path):
    for limit in (Percentile(5), float("inf")):
        rule = Drop("none", (Where("bright.missing", below=limit),))
        assert curate([greys], tmp_path / "c", Curation(stages=(Bright(),), rules=(rule,))).clips == 7


def test_only_numbers_are_compared_and_words_of_curation_are_taken():
    with pytest.raises(UserError, match="is no number"):
        Curation(stages=(Bright(),), rules=(Drop("x", (Where("bright.frames", below=1),)),))
    with pytest.raises(UserError, match="cannot be called 'sound'"):
        Curation(stages=(type("Odd", (Bright,), {"name": "sound"})(),))


def test_a_clip_that_was_left_out_comes_back_without_its_source(greys, tmp_path):
    out, other = tmp_path / "c", media_folder(tmp_path / "other", stills=1, videos=0)
    first = curate([greys], out)
    curate([greys], out, dark(50))
    greys.rename(tmp_path / "away")
    assert curate([other], out).clips == first.clips + 1


def test_a_stage_that_cannot_finish_is_not_tried_for_ever(greys, tmp_path):
    out = tmp_path / "c"
    curate([greys], out)
    assert curate([greys], out, Curation(stages=(Wrong(),))).new == 7
    assert curate([greys], out, Curation(stages=(Wrong(),))).new == 0
    errors = Catalogue(out).ask("select distinct error from wrong")["error"].to_pylist()
    assert len(errors) == 1
    assert "another type than its column" in errors[0]


def test_people_choose_among_equal_pixels(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.bmp"):
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(folder / name)
    out = tmp_path / "c"
    curate([folder], out)
    assert names(out) == {"a.png"}
    ids = {row["location"][-5:]: row["id"] for row in Catalogue(out).ask("select * from observations").to_pylist()}
    judge(out, [(ids["a.png"], "drop", None), (ids["b.bmp"], "keep", None)], "ada")
    curate([folder], out)
    assert names(out) == {"b.bmp"}


class OfNone(Drop):
    """A threshold that leaves nothing out after all."""

    def verdicts(self, con):
        return super().verdicts(con).slice(0, 0)


def test_a_rule_made_out_of_another_decides_itself(greys, tmp_path):
    where = (Where("bright.mean", below=50),)
    policy = Curation(stages=(Bright(),), rules=(OfNone("none", where), Drop("dark", where)))
    decision = Examination([greys], tmp_path / "c", policy).decide()
    assert decision.cuts() == {"none": 0, "dark": 2}
