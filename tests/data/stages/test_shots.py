from collections.abc import Iterable
from itertools import islice, pairwise

import cv2
import numpy as np
import pytest

from benchmarks.planted.originals import synthetic
from benchmarks.shots import Case, Marks, joined, planted
from diorama.data.stages.shots import Shot, Transition, shots, split_long, transitions
from tests.shared import shared_data

RATE = 25.0


def scene(seed: int, t: int, speed: float = 1.0, size: tuple[int, int] = (72, 128)) -> np.ndarray:
    """A pan of `speed` pixels a frame over a picture: (t, h, w, 3)."""
    h, w = size
    picture = cv2.resize(synthetic(np.random.default_rng(seed), size=192), (w * 2, h * 2), interpolation=cv2.INTER_AREA)
    moves = [np.array([[1, 0, w / 2 + speed * k - speed * t / 2], [0, 1, h / 2]]) for k in range(t)]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack([cv2.warpAffine(picture, move, (w, h), flags=flags) for move in moves])


def dissolved(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """The last n frames of a become the first n of b."""
    weights = (np.arange(1, n + 1) / (n + 1))[:, None, None, None]
    mixed = ((1 - weights) * a[-n:] + weights * b[:n]).astype(np.uint8)
    return np.concatenate([a[:-n], mixed, b[n:]])


def found(frames: np.ndarray) -> list[tuple[str, int, int]]:
    return [(one.kind, one.start, one.end) for one in transitions(frames, RATE)]


def test_cuts_are_found_to_the_frame():
    lengths = [20, 31, 12, 27]
    frames = np.concatenate([scene(seed, t) for seed, t in enumerate(lengths)])
    edges = np.cumsum(lengths[:-1]).tolist()
    assert found(frames) == [("cut", k, k) for k in edges]
    bounds = [("start", "cut"), ("cut", "cut"), ("cut", "cut"), ("cut", "end")]
    spans = pairwise([0, *edges, len(frames)])
    assert shots(frames, RATE) == [Shot(*span, *kinds) for span, kinds in zip(spans, bounds, strict=True)]


def test_a_cut_with_a_mixed_frame_leaves_that_out():
    a, b = scene(0, 20), scene(1, 20)
    b[0] = (a[-1] / 2 + b[0] / 2).astype(np.uint8)
    [cut] = transitions(np.concatenate([a, b]), RATE)
    assert cut.kind == "cut"
    first, second = shots(np.concatenate([a, b]), RATE)
    assert first.end <= 20 < second.start <= 23


@pytest.mark.parametrize("n", [8, 14, 24])
def test_a_dissolve_is_found_with_its_span(n):
    frames = dissolved(scene(0, 60, 0.3), scene(1, 60, 0.3), n)
    [(kind, start, end)] = found(frames)
    assert kind == "dissolve"
    assert abs(start - (60 - n)) <= 2
    assert abs(end - 60) <= 2
    first, second = shots(frames, RATE)
    assert first.end < start
    assert second.start > end
    assert (first.after, second.before) == ("dissolve", "dissolve")


@pytest.mark.parametrize("level", [0, 255])
def test_a_fade_is_found_with_its_span(level):
    blank = np.full((10, 72, 128, 3), level, np.uint8)
    frames = dissolved(dissolved(scene(0, 50, 0.3), np.concatenate([blank, blank]), 10), scene(1, 50, 0.3), 8)
    [(kind, start, end)] = found(frames)
    assert kind == "fade"
    assert abs(start - 40) <= 2
    assert abs(end - 60) <= 2


def test_a_video_may_begin_and_end_with_a_fade():
    blank = np.zeros((12, 72, 128, 3), np.uint8)
    frames = dissolved(dissolved(blank, scene(0, 60, 0.3), 10), blank, 10)
    [shot] = shots(frames, RATE)
    assert (shot.before, shot.after) == ("fade", "fade")
    assert 10 <= shot.start <= 16
    assert 46 <= shot.end <= 52


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_flash_is_no_cut(n):
    frames = scene(0, 60).astype(float)
    flash, white = frames.copy(), frames.copy()
    flash[30 : 30 + n] = flash[30 : 30 + n] * 1.6 + 60
    white[30 : 30 + n] = 255
    assert found(np.clip(flash, 0, 255).astype(np.uint8)) == []
    assert found(white.astype(np.uint8)) == []


def test_motion_and_light_are_no_transitions():
    assert found(scene(0, 40, speed=6)) == []  # a twentieth of the width a frame
    light = np.linspace(1, 0.4, 60)[:, None, None, None]
    assert found((scene(1, 60) * light).astype(np.uint8)) == []
    passing = scene(2, 50)
    thing = scene(3, 1)[0, :, :64]
    for k in range(20, 50):
        x = (k - 20) * 8 - 64
        left, right = max(x, 0), min(x + 64, 128)
        if left < right:
            passing[k, 10:, left:right] = thing[10:, left - x : right - x]
    assert found(passing) == []


def test_what_does_not_change_has_no_transitions():
    still = np.repeat(scene(0, 1), 50, 0)
    assert found(still) == []
    assert found(np.zeros((50, 72, 128, 3), np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
    assert found(noise) == []


def test_plain_colours_are_shots():
    colours = [np.full((20, 32, 32, 3), level, np.uint8) for level in (40, 120, 200)]
    assert len(shots(np.concatenate([scene(0, 30, size=(32, 32)), scene(1, 30, size=(32, 32)), *colours]), RATE)) >= 2


def test_the_shortest_videos():
    frames = scene(0, 2)
    assert shots(frames[:1], RATE) == [Shot(0, 1, "start", "end")]
    assert shots(frames, RATE) == [Shot(0, 2, "start", "end")]
    assert shots(np.stack([scene(0, 1)[0], scene(1, 1)[0]]), RATE) == [
        Shot(0, 1, "start", "cut"),
        Shot(1, 2, "cut", "end"),
    ]


def test_bars_and_captions_do_not_count():
    frames = np.concatenate([scene(0, 30, 0.3), scene(1, 30, 0.3)])
    frames = dissolved(frames, scene(2, 40, 0.3), 12)
    frames[:, :9] = frames[:, -9:] = 0
    frames[:, 50:60, 20:90:4] = 255
    assert [kind for kind, *_ in found(frames)] == ["cut", "dissolve"]


def test_size_and_mirror_do_not_matter():
    frames = dissolved(np.concatenate([scene(0, 30), scene(1, 50, 0.3)]), scene(2, 50, 0.3), 14)
    here = found(frames)
    assert [kind for kind, *_ in here] == ["cut", "dissolve"]
    for h, w in ((144, 256), (36, 64), (100, 60), (240, 320)):
        other = np.stack([cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA) for frame in frames])
        assert close(found(other), here)
    assert close(found(np.ascontiguousarray(frames[:, :, ::-1])), here)


def close(some: list, others: list) -> bool:
    """The same kinds: cuts at the same frame, spans within three frames."""
    same = [one[0] for one in some] == [one[0] for one in others]
    off = [abs(a[k] - b[k]) for a, b in zip(some, others, strict=False) for k in (1, 2) if a[0] != "cut"]
    cuts = [[one for one in found if one[0] == "cut"] for found in (some, others)]
    return same and cuts[0] == cuts[1] and max(off, default=0) <= 3


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (5, 3), (400, 9)])
def test_any_size_and_rate(size):
    frames = np.random.default_rng(1).integers(0, 256, (30, *size, 3), dtype=np.uint8)
    for rate in (1.0, 7.5, 240.0):
        covers(shots(frames, rate), 30)


def covers(parts: list[Shot], t: int) -> None:
    """Spans lie within the video, hold frames, and do not overlap."""
    assert all(0 <= part.start < part.end <= t for part in parts)
    assert all(a.end <= b.start for a, b in pairwise(parts))


def test_long_shots_are_split_evenly():
    whole = [Shot(0, 100, "start", "cut"), Shot(100, 130, "cut", "end")]
    parts = split_long(whole, RATE, longest=1.4)
    assert [part.end - part.start for part in parts] == [33, 33, 34, 30]
    assert [(part.before, part.after) for part in parts] == [
        ("start", "split"), ("split", "split"), ("split", "cut"), ("cut", "end")
    ]  # fmt: skip
    assert split_long(whole, RATE, longest=4.0) == whole
    covers(split_long(whole, RATE, longest=0.001), 130)


def marks(cases: Iterable[Case]) -> dict[str, float]:
    held = Marks()
    for case in cases:
        held.add(case, transitions)
    return held.row(named=True)


def test_floors_on_planted_videos():
    rng = np.random.default_rng(7)
    pictures = [synthetic(rng, size=320) for _ in range(10)]
    row = marks(planted(pictures, seed=200, videos=2))
    assert row["cut F1"] >= 0.97
    assert row["dissolve recall"] >= 0.8
    assert row["all F1"] >= 0.93


def test_floors_on_real_videos():
    row = marks(islice(joined(shared_data("video/cut_truth")), 6))  # the other two take long to decode
    assert row["cut F1"] >= 0.97
    assert row["dissolve recall"] >= 0.8
    assert row["all F1"] >= 0.93


def test_marks_count_each_finding_once():
    truth = [Transition("cut", 10, 10, 1.0), Transition("dissolve", 30, 40, 1.0)]
    other = [Transition("cut", k, k, 1.0) for k in (9, 11, 35, 60, 80)]
    held = Marks()
    case = Case(np.zeros((100, 1, 1, 3), np.uint8), RATE, truth, ignored=[(75, 90)])
    held.add(case, lambda frames, rate: other)
    row = held.row(named=True)
    assert row["all recall"] == 1
    assert row["all precision"] == 2 / 4
    assert row["cut F1"] == 2 / 4
