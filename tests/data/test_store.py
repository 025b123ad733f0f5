"""What lies in the catalogue's two Lance datasets: clips as they are kept now, and media that were ever kept."""

import shutil
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pytest

from diorama.core.errors import UserError
from diorama.data import Catalogue, Curation, Drop, Where, curate
from diorama.media import write_png
from tests.data.toy import Bright, Relative

LEVELS = (10, 40, 100, 200)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "greys"
    path.mkdir()
    for level in LEVELS:
        write_png(path / f"grey{level}.png", np.full((8, 8, 3), level, np.uint8))
    return path


def darker_than(level: float, **options) -> Curation:
    return Curation(stages=(Bright(),), rules=(Drop("bright", (Where("bright.mean", above=level),)),), **options)


def stored(out) -> int:
    return lance.dataset(out / "media.lance").count_rows()


def test_a_threshold_copies_no_media(folder, tmp_path):
    out = tmp_path / "c"
    assert curate([folder], out, darker_than(50)).clips == 2
    assert stored(out) == 2
    assert curate([folder], out, darker_than(150)).clips == 3
    assert stored(out) == 3
    version = lance.dataset(out / "media.lance").version
    assert curate([folder], out, darker_than(50)).clips == 2
    assert (stored(out), lance.dataset(out / "media.lance").version) == (3, version)
    media = Catalogue(out).media(Catalogue(out).clips().to_pylist())
    assert {bytes(m) for m in media} == {(folder / f"grey{level}.png").read_bytes() for level in (10, 40)}


@pytest.mark.parametrize("first", [True, False])
def test_what_a_killed_process_left_half_written_is_removed(folder, tmp_path, first):
    out = tmp_path / "c"
    if not first:
        curate([folder], out, darker_than(50))
        version = lance.dataset(out / "clips.lance").version
    left = [out / name / ".tmpX9MpqS" for name in ("media.lance/data", "clips.lance/data", "clips.lance/_versions")]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert curate([folder], out, darker_than(150)).clips == 3
    assert not any(path.exists() for path in left)
    if not first:
        assert len(lance.dataset(out / "clips.lance", version=version).to_table()) == 2


def test_media_of_a_finished_catalogue_are_never_swept(folder, tmp_path):
    out = tmp_path / "c"
    curate([folder], out, darker_than(50))
    shutil.rmtree(out / "media.lance" / "_versions")
    held = sorted((out / "media.lance" / "data").iterdir())
    with pytest.raises(ValueError, match="not found"):
        curate([folder], out, darker_than(150))
    assert sorted((out / "media.lance" / "data").iterdir()) == held


def test_a_release_stays_as_it_was(folder, tmp_path):
    out = tmp_path / "c"
    first = curate([folder], out, darker_than(50))
    Catalogue(out).tag("v1")
    second = curate([folder], out, darker_than(150))
    old, now = Catalogue(out, release="v1"), Catalogue(out)
    assert (old.hash(), len(old.clips())) == (first.hash, 2)
    assert (now.hash(), len(now.clips())) == (second.hash, 3)
    assert len(old.media(old.clips().to_pylist())) == 2
    with pytest.raises(UserError, match="'v1' is a release already"):
        now.tag("v1")
    with pytest.raises(UserError, match="no release 'v2': there are v1"):
        Catalogue(out, release="v2")


def test_vectors_are_columns_named_by_what_made_them(folder, tmp_path):
    out, policy = tmp_path / "c", Curation(stages=(Bright(),), derived=(Relative(),))
    curate([folder], out, policy)
    write_png(folder / "new.png", np.full((8, 8, 3), 60, np.uint8))
    curate([folder], out, policy)
    table = lance.dataset(out / "media.lance").to_table()
    [name] = [name for name in table.schema.names if name.startswith("relative_vector_")]
    assert name.removeprefix("relative_vector_") == next((out / "observations" / "relative").iterdir()).name
    measured = {row["id"]: row["vector"] for row in Catalogue(out).ask("select id, vector from relative").to_pylist()}
    assert len(measured) == 5
    assert {row["id"]: row[name] for row in table.to_pylist()} == measured
    curate([folder], out, Curation(stages=(Bright(),), derived=(Relative(sample=2),)))
    names = lance.dataset(out / "media.lance").schema.names
    assert len([name for name in names if name.startswith("relative_vector_")]) == 2


def test_vectors_follow_words_and_clips(folder, tmp_path):
    out, policy = tmp_path / "c", Curation(stages=(Bright(),), derived=(Relative(),))
    curate([folder], out, policy)
    (folder / "grey10.txt").write_text("three words now")
    (folder / "grey40.png").unlink()
    write_png(folder / "new.png", np.full((8, 8, 3), 60, np.uint8))
    curate([folder], out, policy)
    measured = {row["id"]: row["vector"] for row in Catalogue(out).ask("select id, vector from relative").to_pylist()}
    table = lance.dataset(out / "media.lance").to_table()
    [name] = [name for name in table.schema.names if name.startswith("relative_vector_")]
    found = {row["id"]: row[name] for row in table.to_pylist()}
    assert {i: found[i] for i in Catalogue(out).clips()["id"].to_pylist()} == {
        i: measured[i] for i in Catalogue(out).clips()["id"].to_pylist()
    }


def test_media_that_are_stored_anew_are_found_where_they_lie_now(folder, tmp_path):
    """Though as many rows as before say nothing of their order, and what was kept of them is still there."""
    out = tmp_path / "c"
    for level in (20, 50, 150, 250):  # stored in four goes, not in the order of their ids
        curate([folder], out, darker_than(level))
    for gone in ("media.lance", "clips.lance"):
        shutil.rmtree(out / gone)
    (out / "catalogue.json").unlink()
    curate([folder], out, darker_than(250))
    catalogue = Catalogue(out)
    clips = catalogue.clips().to_pylist()
    for clip, media in zip(clips, catalogue.media(clips), strict=True):
        assert bytes(media) == Path(clip["location"]).read_bytes()


def test_a_release_knows_what_came_before_the_version_after_it(folder, tmp_path):
    """Also what was left out without changing a clip."""
    out = tmp_path / "c"
    curate([folder], out)
    (folder / "broken.png").write_bytes(b"no picture")
    before = curate([folder], out)
    Catalogue(out).tag("v1")
    write_png(folder / "new.png", np.full((8, 8, 3), 60, np.uint8))
    curate([folder], out)
    release = Catalogue(out, release="v1")
    assert release.summary() == replace(before, new=0)
    assert [str(told).splitlines()[0] for told in release.explain("broken.png")] == [str(folder / "broken.png")]
    with pytest.raises(UserError, match="has seen no clip"):
        release.explain("new.png")
