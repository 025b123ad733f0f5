import shutil

import numpy as np
import pytest

from diorama.data import Catalogue, Curation, Drop, Where, curate
from diorama.data.decide import judge
from diorama.data.ledger import DECISION, LATEST, connect
from diorama.media import write_png
from tests.data.make import media_folder, picture

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
