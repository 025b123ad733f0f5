"""Archives are folders in one file: the same clips and words, whatever packs them; damaged ones have a reason."""

import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from diorama.data import Catalogue, ClipSource, curate
from diorama.data.sources import fetch, listing
from diorama.media import read
from tests.data.make import media_folder, picture
from tests.data.test_curation import reasons


def packed(folder, path):
    """The files of a folder in an archive."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
            archive.add(folder, "inside")
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz", "a.tar.gz"])
def test_an_archive_is_its_folder(tmp_path, name):
    folder = media_folder(tmp_path / "media")
    plain = curate([folder], tmp_path / "plain")
    (tmp_path / "in").mkdir()
    packed(folder, tmp_path / "in" / name)
    archived = curate([tmp_path / "in"], tmp_path / "c")
    assert archived.hash == plain.hash
    assert curate([tmp_path / "in"], tmp_path / "c").new == 0
    a, b = (ClipSource(Catalogue(tmp_path / n), "test", 5, 16, 16) for n in ("plain", "c"))
    np.testing.assert_array_equal(a[0]["media"], b[0]["media"])


def test_a_webdataset_shard(tmp_path):
    with tarfile.open(tmp_path / "000.tar", "w") as shard:
        for i in range(3):
            png = io.BytesIO()
            Image.fromarray(picture(i)).save(png, "PNG")
            parts = {"png": png.getvalue(), "txt": f"picture {i}\n".encode(), "cls": str(i).encode()}
            parts["json"] = json.dumps({"license": "CC0", "width": 16}).encode()
            for suffix, data in parts.items():
                info = tarfile.TarInfo(f"sub/{i:04d}.{suffix}")
                info.size = len(data)
                shard.addfile(info, io.BytesIO(data))
    items = list(listing(tmp_path / "000.tar"))
    assert [item.said["caption"] for item in items] == ["picture 0", "picture 1", "picture 2"]
    assert [item.said["label"] for item in items] == [0, 1, 2]
    assert {item.said["licence"] for item in items} == {"CC0"}
    assert json.loads(items[2].said["more"])["member"] == "sub/0002.png"
    np.testing.assert_array_equal(read(fetch(items[2].location)).frames[0], picture(2))


def test_what_is_wrong_with_an_archive_is_its_reason(tmp_path):
    folder = media_folder(tmp_path / "media", stills=2, videos=0)
    whole = packed(folder, tmp_path / "whole.zip").read_bytes()
    source = tmp_path / "in"
    source.mkdir()
    (source / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (source / "no.tar").write_bytes(b"not a tar")
    with zipfile.ZipFile(source / "words.zip", "w") as archive:
        archive.writestr("a.txt", "words")
    flipped = bytearray(whole)
    with zipfile.ZipFile(tmp_path / "whole.zip") as archive:
        flipped[archive.getinfo("still0.png").header_offset + 100] ^= 0xFF
    (source / "flipped.zip").write_bytes(flipped)
    summary = curate([source], tmp_path / "c")
    left_out = reasons(tmp_path / "c")
    assert "not readable" in left_out["cut.zip"]
    assert "not readable" in left_out["no.tar"]
    assert left_out["words.zip"] == "an archive without media"
    assert summary.clips == 1  # of the archive with one damaged member the other is kept
    assert sum(name.startswith("flipped.zip#") for name in left_out) == 1
