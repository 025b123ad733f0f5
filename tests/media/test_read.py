"""What a file is goes by its content."""

import io
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from diorama.media import BadMedia, Limits, probe, read, write_mp4, write_png


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (3, 2), (10, 20, 30)).save(out, "PNG")
    return out.getvalue()


def test_the_name_does_not_matter(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(png())
    media = read(path)
    assert media.info["format"] == "png"
    assert media.frames[0, 0, 0].tolist() == [10, 20, 30]
    assert probe(str(path)).kind == "image"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"  <svg/>", "SVG"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"dear diary, today I trained a model\n" * 9, "text"),
        (b"PK\x03\x04" + bytes(40), "zip"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "sound only"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://example.com/a.ts\n", "text"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "text"),
        (bytes(range(256)) * 20, "no known"),
    ],
)
def test_what_is_not_media_says_so(data, reason):
    with pytest.raises(BadMedia, match=reason):
        read(data)
    with pytest.raises(BadMedia, match=reason):
        probe(data)


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(BadMedia, match="No such file"):
        read(tmp_path / "nothing.png")
    with pytest.raises(BadMedia, match="not a regular file"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadMedia, match="not a regular file"):  # opening it would wait for ever
        read(tmp_path / "pipe.png")


def test_no_external_program_is_run(tmp_path, monkeypatch):
    """An EPS by any disguise never reaches Ghostscript."""
    marker = tmp_path / "ran"
    fake = tmp_path / "gs"
    fake.write_text(f"#!/bin/sh\ntouch {marker}\n")
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    binary = b"\xc5\xd0\xd3\xc6" + (32).to_bytes(4, "little") + len(eps).to_bytes(4, "little") + bytes(20) + eps
    for data in (eps, binary, b"\n" + eps):
        with pytest.raises(BadMedia):
            read(data)
    assert not marker.exists()


def test_import_needs_no_jax():
    code = "import sys, diorama.media; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_frames_are_plain_arrays():
    media = read(png())
    assert media.frames.dtype == np.uint8
    assert media.frames.flags.c_contiguous
    assert media.rate is None
    assert media.sound is None


def test_frames_are_shrunk_while_decoding(tmp_path):
    frames = np.full((6, 90, 160, 3), 50, np.uint8)
    write_mp4(tmp_path / "wide.mp4", frames, 8, lossless=True)
    tight = Limits(total_bytes=50_000)  # six frames of 32x57, one of 90x160
    with pytest.raises(BadMedia, match="MB"):
        read(tmp_path / "wide.mp4", tight)
    media = read(tmp_path / "wide.mp4", tight, short_side=32)
    assert media.frames.shape == (6, 32, 57, 3)
    assert (media.info["height"], media.info["width"]) == (90, 160)
    assert read(png(), short_side=64).frames.shape == (1, 2, 3, 3)
    write_png(tmp_path / "tall.png", frames[0].swapaxes(0, 1))
    assert read(tmp_path / "tall.png", short_side=45).frames.shape == (1, 80, 45, 3)
