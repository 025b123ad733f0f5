import shutil

import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.data import Catalogue, Curation, Drop, Where, curate
from diorama.data.decide import judge
from diorama.data.ledger import DECISION, LATEST, connect
from diorama.data.rehearse import rehearse
from diorama.data.stages import Shots
from diorama.media import Limits, write_mp4, write_png
from tests.data.make import media_folder, picture, video

ALL = "select * from decisions order by location"


def wide(least: int) -> Curation:
    return Curation(rules=(Drop("narrow", (Where("clip.w", below=least),)),))


@pytest.fixture
def folder(tmp_path):
    """Stills of 10 to 19 pixels, one of them twice, and a few videos."""
    folder = media_folder(tmp_path / "a", stills=2, videos=2)
    for k in range(10):
        write_png(folder / f"wide{k}.png", picture(100 + k, 12, 10 + k))
    shutil.copy(folder / "wide3.png", folder / "copy.png")
    return folder


def from_ledger(catalogue) -> list[dict]:
    """The last verdicts, found in the ledger alone."""
    con = connect({"ledger": (catalogue / "decisions", DECISION)})
    con.execute(LATEST.format(view="decisions", table="ledger"))
    return con.sql(ALL).to_arrow_table().select(DECISION.names).to_pylist()


def test_what_is_kept_of_verdicts_and_what_came_later_are_the_ledger(folder, tmp_path):
    """After any walk of thresholds, with judgements between; the file is written now and then, not always."""
    out, rng, written = tmp_path / "c", np.random.default_rng(0), set()
    for turn in range(12):
        curate([folder], out, wide(int(rng.integers(9, 19))))
        if turn % 3 == 0:
            ids = Catalogue(out).clips()["id"].to_pylist()
            judge(out, [(ids[0], "undo" if turn % 2 else "drop", None)], "someone")
        assert Catalogue(out).ask(ALL).select(DECISION.names).to_pylist() == from_ledger(out)
        written |= {path.name for path in (out / "cache").glob("verdicts-*.parquet")}
    assert 1 < len(written) < len(list((out / "decisions").glob("*.parquet")))
    assert len(list((out / "cache").glob("verdicts-*.parquet"))) <= 2


def test_the_cache_may_go_at_any_time(folder, tmp_path):
    """Every catalogue and ledger are as they would be with it."""
    kept, gone = tmp_path / "kept", tmp_path / "gone"
    for least in (9, 14, 11, 16):
        shutil.rmtree(gone / "cache", ignore_errors=True)
        first, second = (curate([folder], out, wide(least)) for out in (kept, gone))
        assert first == second
        told = "select * exclude (time) from ledger order by run, location"
        assert Catalogue(kept).ask(told).equals(Catalogue(gone).ask(told))
        assert Catalogue(kept).clips().equals(Catalogue(gone).clips())


def test_a_threshold_makes_nothing_of_it_anew(folder, tmp_path):
    curate([folder], tmp_path / "c", wide(9))
    [ranked] = (tmp_path / "c" / "cache").glob("ranked-*.parquet")
    before = ranked.stat().st_mtime_ns
    curate([folder], tmp_path / "c", wide(15))
    assert [path.stat().st_mtime_ns for path in (tmp_path / "c" / "cache").glob("ranked-*.parquet")] == [before]


def test_words_that_become_what_they_were_count(folder, tmp_path):
    """Though what is said then was said before, and was looked at."""
    out, file = tmp_path / "c", folder / "wide1.txt"
    hashes = []
    for words in ("one", "another", "one"):
        file.write_text(words)
        curate([folder], out)
        [caption] = [c["caption"] for c in Catalogue(out).clips().to_pylist() if c["location"].endswith("wide1.png")]
        assert caption == words
        hashes.append(Catalogue(out).hash())
    assert hashes[0] == hashes[2] != hashes[1]


def test_the_hash_of_a_manifest_is_that_of_its_clips(folder, tmp_path):
    """Whatever came first; and every word of a clip is in it."""
    few, one = tmp_path / "few", tmp_path / "one"
    curate([folder], one)
    apart = tmp_path / "b"
    apart.mkdir()
    (folder / "wide5.png").rename(apart / "wide5.png")
    curate([folder], few)
    assert Catalogue(few).hash() != Catalogue(one).hash()
    (apart / "wide5.png").rename(folder / "wide5.png")
    curate([folder], few)
    assert Catalogue(few).hash() == Catalogue(one).hash()
    clip = Catalogue(one).clips()["id"][0].as_py()
    seen = {Catalogue(one).hash()}
    for verdict, words in (("caption", "other words"), ("label", "another class"), ("drop", None)):
        judge(one, [(clip, verdict, words)], "someone")
        curate([folder], one)
        seen.add(Catalogue(one).hash())
    assert len(seen) == 4


def test_other_limits_are_other_observations(tmp_path):
    """Though their shards may have the names that others had."""
    write_png(tmp_path / "a" / "one.png", picture(1, 300, 300))
    with pytest.raises(UserError, match="no clip that can be read"):
        curate([tmp_path / "a"], tmp_path / "c", Curation(limits=Limits(pixels=10)), workers=1)
    assert curate([tmp_path / "a"], tmp_path / "c").clips == 1


def test_so_are_other_cuts(tmp_path):
    write_mp4(tmp_path / "a" / "long.mp4", video(1, 12), 1.0, lossless=True)
    counts = []
    for longest in (20, 4, 2):
        policy = Curation(cut=Shots(longest=longest))
        found = curate([tmp_path / "a"], tmp_path / "c", policy)
        assert found.hash == curate([tmp_path / "a"], tmp_path / str(longest), policy).hash
        counts.append(found.clips)
    assert counts[0] < counts[1] < counts[2]


def test_copies_that_bring_a_group_join_splits(tmp_path):
    """Two alike cancel nothing: x_i lies where y_i does, once copies of x_i say its group."""
    folder, out = tmp_path / "a", tmp_path / "c"
    folder.mkdir()
    for k in range(24):
        for name, seed in (("x", k), ("y", 100 + k)):
            write_png(folder / f"{name}{k}.png", picture(seed))
        (folder / f"y{k}.json").write_text(f'[{{"file_name": "y{k}.png", "group": "g{k}"}}]')
    shutil.copy(folder / "x0.png", folder / "x0_again.png")
    curate([folder], out, Curation(test_share=0.4))
    for k in range(24):
        for copy in ("one", "two"):
            shutil.copy(folder / f"x{k}.png", folder / f"x{k}_{copy}.png")
            (folder / f"x{k}_{copy}.json").write_text(f'[{{"file_name": "x{k}_{copy}.png", "group": "g{k}"}}]')
    curate([folder], out, Curation(test_share=0.4))
    split = {c["location"].rpartition("/")[2].partition(".")[0]: c["split"]
             for c in Catalogue(out).clips().to_pylist()}  # fmt: skip
    assert {split[f"x{k}"] == split[f"y{k}"] for k in range(24)} == {True}


def test_a_dry_run_after_a_rule_that_changed_nothing_is_told_apart(folder, tmp_path):
    curate([folder], tmp_path / "c")
    curate([folder], tmp_path / "c", wide(1))  # another policy, and no other verdict
    write_png(folder / "new.png", picture(500))
    list(rehearse([folder], tmp_path / "c", wide(1)))
    (folder / "new.png").unlink()
    curate([folder], tmp_path / "c", wide(1))
    assert not [c for c in Catalogue(tmp_path / "c").clips()["location"].to_pylist() if c.endswith("new.png")]


def test_a_source_that_was_emptied_beside_one_that_was_not(folder, tmp_path):
    other = tmp_path / "b"
    other.mkdir()
    write_png(other / "one.png", picture(600))
    before = curate([folder, other], tmp_path / "c")
    (other / "one.png").unlink()
    assert curate([folder, other], tmp_path / "c").clips == before.clips - 1


def test_a_list_beside_a_folder_of_a_longer_name_names_files_elsewhere(tmp_path):
    """/d/train does not hold what /d/train_images holds."""
    images, root = tmp_path / "train_images", tmp_path / "train"
    root.mkdir()
    write_png(images / "x.png", picture(1))
    (root / "list.csv").write_text("file_name,caption\n../train_images/x.png,words\n")
    first = curate([root], tmp_path / "c")
    write_png(images / "x.png", picture(2, 20, 20))
    assert curate([root], tmp_path / "c").hash != first.hash


def test_who_reads_does_so_though_the_cache_is_made_anew(folder, tmp_path):
    curate([folder], tmp_path / "c", wide(9))
    reader = Catalogue(tmp_path / "c")
    before = reader.ask("select count(*) as n from decisions")["n"].to_pylist()
    shutil.rmtree(tmp_path / "c" / "cache")
    assert reader.ask("select count(*) as n from decisions")["n"].to_pylist() == before
