"""Derived stages: columns from columns, each clip once, and again only where what it was made from changed."""

import numpy as np
import pytest
from PIL import Image

from diorama.core.errors import UserError
from diorama.data import Catalogue, Curation, Drop, Where, curate
from diorama.media import write_png
from tests.data.toy import Bright, Relative

LEVELS = (10, 40, 100)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "greys"
    path.mkdir()
    for level in LEVELS:
        write_png(path / f"grey{level}.png", np.full((8, 8, 3), level, np.uint8))
        (path / f"grey{level}.txt").write_text("a grey square")
    return path


def policy(**options) -> Curation:
    return Curation(
        stages=(Bright(),),
        derived=(Relative(**options),),
        rules=(Drop("bright", (Where("relative.excess", above=30.0),)),),
    )


def rows(out) -> list[tuple]:
    table = Catalogue(out).ask("select distinct r.* from relative r order by excess").to_pylist()
    return [(row["excess"], row["count"], row["vector"]) for row in table]


def test_values_come_from_other_stages_and_from_words(folder, tmp_path):
    summary = curate([folder], tmp_path / "c", policy())
    assert rows(tmp_path / "c") == [(level - 50.0, 3, [level - 50.0, 3.0]) for level in LEVELS]
    assert list(summary.dropped) == ["bright"]


def test_only_what_changed_is_derived_again(folder, tmp_path):
    out = tmp_path / "c"
    curate([folder], out, policy())
    shards = {path: path.stat().st_mtime_ns for path in (out / "observations" / "relative").rglob("*.parquet")}
    curate([folder], out, policy())
    assert {p: p.stat().st_mtime_ns for p in (out / "observations" / "relative").rglob("*.parquet")} == shards
    (folder / "grey40.txt").write_text("words")
    write_png(folder / "new.png", np.full((8, 8, 3), 60, np.uint8))
    curate([folder], out, policy())
    assert [(excess, count) for excess, count, _ in rows(out)] == [(-40, 3), (-10, 1), (10, 0), (50, 3)]
    assert sum(len(path.read_bytes()) > 0 for path in (out / "observations" / "relative").rglob("*.parquet")) == 2


def test_what_one_configuration_fitted_no_other_uses(folder, tmp_path):
    curate([folder], tmp_path / "c", policy())
    curate([folder], tmp_path / "c", policy(sample=1))
    assert 0.0 in [excess for excess, _, _ in rows(tmp_path / "c")]  # beside the mean of one clip


def test_other_parameters_or_sources_are_other_observations(folder, tmp_path):
    out = tmp_path / "c"
    curate([folder], out, policy())
    curate([folder], out, policy(sample=50))
    curate([folder], out, Curation(stages=(Bright(gain=2.0),), derived=(Relative(),)))
    assert len(list((out / "observations" / "relative").iterdir())) == 3


def test_a_clip_without_what_is_read_is_null(folder, tmp_path):
    Image.new("RGB", (8, 8)).save(folder / "black.png")
    (folder / "black.txt").write_text(" ")
    curate([folder], tmp_path / "c", policy())
    assert rows(tmp_path / "c")[0][1] == 0


def test_what_no_earlier_stage_measures_is_refused():
    with pytest.raises(UserError, match="which no stage before it measures"):
        Curation(derived=(Relative(),))
