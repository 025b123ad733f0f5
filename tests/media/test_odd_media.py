"""602 files that trip decoders: each ends in arrays or in one reason, in bounded time and memory."""

import resource
from pathlib import Path

import numpy as np
import pytest

from diorama.media import BadMedia, Limits, Reader, probe
from tests.shared import shared_data


def check(media):
    """In the worker: whether the arrays are what `Media` promises."""
    t, h, w, c = media.frames.shape
    good = media.frames.dtype == np.uint8 and c == 3 and min(t, h, w) > 0
    if media.sound is not None:
        good &= media.sound.dtype == np.float32 and np.abs(media.sound).max(initial=0) <= 1 and media.sound_rate > 0
    return bool(good and (t == 1 or media.rate > 0)), t, media.sound is not None, peak_memory()


def peak_memory():
    """Most bytes this process has held since it began (`ru_maxrss` would count what its parent held at the fork)."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(scope="module")
def outcomes():
    root = shared_data("odd_media")
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "observed.json")
    with Reader(2, Limits(timeout=30)) as reader:
        results = list(reader.map(files, apply=check))
    return {str(path.relative_to(root)): result for path, result in zip(files, results, strict=True)}


def test_every_file_ends_in_arrays_or_one_reason(outcomes):
    assert len(outcomes) == 602
    for name, result in outcomes.items():
        if isinstance(result, BadMedia):
            assert 0 < len(result.reason) < 140, name
            assert "\n" not in result.reason, name
            assert "/" not in result.reason or "bytes" in result.reason, name
            assert "crashed" not in result.reason, name
            assert "longer than" not in result.reason, name
        else:
            assert result[0], name
            assert result[3] < 2e9, name  # of its worker until then, the refused files before it included
    assert sum(not isinstance(result, BadMedia) for result in outcomes.values()) >= 360


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("made_broken/truncated.jpg", "truncated"),
        ("made_broken/html_error_page.jpg", "web page"),
        ("made_broken/bitflips.mp4", "damaged"),
        ("videos_misc/zero_bytes.webm", "empty"),
        ("images_pillow/decompression_bomb.gif", "pixels"),
        ("images_pillow/eps__zero_bb.eps", "PostScript"),
        ("videos_exoplayer/ts__sample_ac3.ts", "sound only"),
    ],
)
def test_known_reasons(outcomes, name, reason):
    assert reason in outcomes[name].reason


def test_known_arrays(outcomes):
    assert outcomes["made_broken/really_a_jpeg.png"][0]
    assert outcomes["images_pillow/dispose_bgnd.gif"][1] == 5
    assert outcomes["videos_misc/transparent.webm"][:3] == (True, 150, True)
    assert outcomes["videos_exoplayer/mp4__sample_still_photo.heic"][0]


def test_probe_agrees(outcomes):
    root = shared_data("odd_media")
    for name in ("images_pillow/hopper_orientation_6.jpg", "videos_misc/h265_video.mp4", "images_pillow/chi.gif"):
        info = probe(root / name)
        assert info.t == outcomes[name][1]
