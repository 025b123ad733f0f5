"""The page about a codec."""

import re
from dataclasses import replace

import numpy as np
import pytest

from diorama.codec import PixelCodecConfig
from diorama.core import UserError
from diorama.core.files import write_text
from diorama.run import CodecStage, Folder
from diorama.run.diagnose import diagnose
from diorama.serve.codec import write_codec_report
from tests.run.conftest import RUN
from tests.serve.page import Page


@pytest.fixture(scope="module")
def seen(trained: Folder):
    return diagnose(trained)


def test_stills_and_videos_are_seen_beside_their_own_codecs(seen, trained):
    still, video = seen
    assert [curve.name for curve in still.curves] == ["ours", "JPEG", "WebP", "AVIF"]
    assert [curve.name for curve in video.curves] == ["ours", "H.264", "H.265"]
    for one in seen:
        assert one.about["compression"] > 1
        assert all(np.isfinite(value) for value in one.about["scores"].values())
        ours, *others, resized = one.about["equal"]
        assert resized["bits"] is None
        assert resized["psnr"] == pytest.approx(one.about["resized"]["PSNR (dB)"])
        sizes = [row["bits"] for row in others]
        curves = {curve.name: curve for curve in one.curves}
        for row in others:  # as many bits, or the fewest that there are
            least = min(point.bits for point in curves[row["name"]].points)
            assert row["bits"] == pytest.approx(ours["bits"], rel=0.25) or row["bits"] <= 1.05 * least, sizes
    again = diagnose(trained)  # kept
    for one, two in zip(again, seen, strict=True):
        assert {k: (one.about[k], two.about[k]) for k in one.about if one.about[k] != two.about[k]} == {}
    np.testing.assert_array_equal(again[1].arrays["again"], seen[1].arrays["again"])


def test_the_page_needs_nothing_beside_it(seen, trained):
    path = write_codec_report(trained)
    page = Page(path.read_text())
    assert all(re.match(r"data:|#", address) for address in page.addresses)
    assert page.tags.count("svg") == 3 * len(seen)
    words = " ".join(page.text.split())
    assert "At equal bits" in words
    assert "Stills, 32 × 32" in words
    assert "Videos of 9 frames" in words


def test_a_run_on_pixels_has_no_codec(trained, tmp_path):
    run = replace(RUN, codec=CodecStage(PixelCodecConfig()))
    for path in (trained.config, trained.manifest):
        write_text(tmp_path / path.name, path.read_text())
    write_text(tmp_path / "config.txt", run.text())
    with pytest.raises(UserError, match="works on pixels"):
        diagnose(Folder.open(tmp_path))
