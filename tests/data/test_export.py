"""What is exported can be curated again, and is the same catalogue."""

import json
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest

from diorama.core.errors import UserError
from diorama.data import Catalogue, Curation, curate
from diorama.data.export import export
from diorama.media import write_png
from tests.data.make import media_folder, picture


@pytest.fixture
def catalogue(tmp_path):
    folder = media_folder(tmp_path / "media")
    write_png(folder / "strip.png", np.concatenate([picture(60), picture(61)], axis=1))
    with (folder / "metadata.jsonl").open("a") as words:
        words.write(
            json.dumps(
                {
                    "file_name": "strip.png",
                    "frame_width": 16,
                    "license": "CC0",
                    "mood": "grey",
                    "video": "no",
                    "image": "x.png",
                }
            )
            + "\n"
        )
    np.savez(folder / "more.npz", media=np.stack([picture(70), picture(71)]), labels=np.array([3, 4]))
    curate([folder], tmp_path / "c", Curation(inline_bytes=200))  # some inside, some beside
    return Catalogue(tmp_path / "c")


@pytest.mark.parametrize("form", ["folder", "webdataset", "parquet"])
def test_there_and_back(catalogue, tmp_path, form):
    assert export(catalogue, tmp_path / "out", form) == 12
    again = curate([tmp_path / "out"], tmp_path / "again")
    assert again.hash == catalogue.hash()
    assert again.dropped == {}
    clips = {c["id"]: c for c in Catalogue(tmp_path / "again").clips().to_pylist()}
    for clip in catalogue.clips().to_pylist():
        assert clips[clip["id"]]["licence"] == clip["licence"]


def test_what_else_is_said_goes_along(catalogue, tmp_path):
    export(catalogue, tmp_path / "out", "webdataset")
    with tarfile.open(next((tmp_path / "out").glob("train-*.tar"))) as tar:
        said = [json.loads(tar.extractfile(m).read()) for m in tar.getmembers() if m.name.endswith("json")]
    assert [s["mood"] for s in said if "mood" in s] in ([], ["grey"])  # by its hash it may be a test clip


@pytest.mark.parametrize("form", ["folder", "webdataset", "parquet"])
def test_all_that_is_known_of_a_clip_goes_along(tmp_path, form):
    words = {"file_name": "video0.mp4", "caption": "a dog runs", "class": "dog", "license": "CC0", "author": "ada",
             "url": "https://example.org/a", "terms": "none", "mood": "grey", "split": "train"}  # fmt: skip
    folder = media_folder(tmp_path / "in", stills=0, videos=1)
    (folder / "metadata.jsonl").write_text(json.dumps(words) + "\n")
    curate([folder], tmp_path / "c")
    export(Catalogue(tmp_path / "c"), tmp_path / "out", form)
    want = {"caption": "a dog runs", "class_name": "dog", "licence": "CC0", "author": "ada", "terms": "none",
            "origin": "https://example.org/a", "mood": "grey", "split": "train", "rate": 8.0, "weight": 1.0,
            "t": 5, "h": 16, "w": 16, "seconds": 0.625, "original_location": str(folder / "video0.mp4")}  # fmt: skip
    assert said(tmp_path / "out", form) == want
    curate([tmp_path / "out"], tmp_path / "again")
    export(Catalogue(tmp_path / "again"), tmp_path / "twice", form)
    assert said(tmp_path / "twice", form) == want  # where it came from first


def said(out, form) -> dict:
    """What an export says of its only clip."""
    if form == "folder":
        row = json.loads((out / "train" / "metadata.jsonl").read_text())
    elif form == "parquet":
        [row] = pq.read_table(out / "train-000000.parquet").drop_columns(["media"]).to_pylist()
    else:
        with tarfile.open(out / "train-000000.tar") as tar:
            row = json.loads(tar.extractfile(tar.getmembers()[1]).read())
    return {word: value for word, value in row.items() if word != "file_name"}


def test_nothing_is_overwritten(catalogue, tmp_path):
    with pytest.raises(UserError, match="use folder, webdataset or parquet"):
        export(catalogue, tmp_path / "out", "zip")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(UserError, match="not empty"):
        export(catalogue, tmp_path / "out", "folder")
