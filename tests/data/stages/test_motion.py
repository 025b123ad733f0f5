"""What `Motion` says of motion that is exactly known."""

import cv2
import numpy as np
import pytest

from benchmarks.planted.cameras import passing, video, view
from benchmarks.planted.originals import synthetic
from diorama.data.stages.camera import CLASSES, Path, camera, composed, fit, steps
from diorama.data.stages.motion import MEASURES, Motion, motion
from diorama.media import Media

SEED = 7_000_000
H, W, RATE = 108, 192, 25.0


def picture(seed: int = SEED) -> np.ndarray:
    return synthetic(np.random.default_rng(seed), size=384)


def moved(rates, rate: float = RATE, size: tuple[int, int] = (H, W), seconds: float = 2.0) -> np.ndarray:
    """Frames (t, h, w, 3) of a camera with `rates` as `Motion` names them: pan, tilt, zoom, roll."""
    step = np.tile(np.array(rates) / [rate, rate, rate, np.degrees(rate)], (round(seconds * rate) + 1, 1))
    step[0] = 0
    return view(np.random.default_rng(SEED), picture(), step, np.zeros_like(step), size)


def rates_of(row) -> np.ndarray:
    return np.array([row[name] for name in CLASSES])


@pytest.mark.parametrize("name", CLASSES)
def test_each_motion_is_named_and_measured(name):
    truth = {"pan": -0.12, "tilt": 0.15, "zoom": -0.2, "roll": 12.0}[name]
    row = motion(moved([truth if each == name else 0 for each in CLASSES]), RATE)
    assert row["camera"] == name
    assert row[name] == pytest.approx(truth, rel=0.06)
    others = np.abs(rates_of(row) / [1, 1, 1, 60])[[each != name for each in CLASSES]]
    assert others.max() < 0.01
    assert row["moving"] < 0.03


@pytest.mark.parametrize(("rate", "size"), [(12.5, (240, 136)), (50.0, (108, 192)), (12.5, (64, 64))])
def test_neither_rate_nor_size_matters(rate, size):
    row = motion(moved([0.15, 0, 0, 0], rate, size), rate)
    assert row["camera"] == "pan"
    assert row["pan"] == pytest.approx(0.15, rel=0.05)
    h, w = size
    assert row["flow"] == pytest.approx(0.15 * w / np.hypot(h, w), rel=0.05)


def test_signs_from_content_moved_by_hand():
    """Content that moves left, down, and clockwise is what cameras see that turn right, up, counter-clockwise."""
    scene = cv2.resize(picture(), (2 * W, 2 * H), interpolation=cv2.INTER_AREA)
    left = np.stack([scene[20 : 20 + H, 40 + k : 40 + k + W] for k in range(20)])
    down = np.stack([scene[60 - k : 60 - k + H, 40 : 40 + W] for k in range(20)])
    row = motion(left, RATE)
    assert row["camera"] == "pan"
    assert row["pan"] == pytest.approx(RATE / W, rel=0.05)
    assert abs(row["flow_direction"]) == pytest.approx(180, abs=3)
    row = motion(down, RATE)
    assert row["camera"] == "tilt"
    assert row["tilt"] == pytest.approx(RATE / H, rel=0.05)
    assert row["flow_direction"] == pytest.approx(-90, abs=3)
    assert row["flow_coherence"] > 0.95
    clockwise = []
    for k in range(20):  # cv2's angles are counter-clockwise
        turn = cv2.getRotationMatrix2D((W - 0.5, H - 0.5), -0.5 * k, 1.0)
        clockwise.append(cv2.warpAffine(scene, turn, (2 * W, 2 * H))[H // 2 : H // 2 + H, W // 2 : W // 2 + W])
    row = motion(np.stack(clockwise), RATE)
    assert row["camera"] == "roll"
    assert row["roll"] == pytest.approx(0.5 * RATE, rel=0.06)


def test_a_mirrored_video_turns_the_other_way():
    frames = moved([0.1, 0.15, 0.2, 15])
    row, mirrored = motion(frames, RATE), motion(np.ascontiguousarray(frames[:, :, ::-1]), RATE)
    assert rates_of(mirrored) == pytest.approx(rates_of(row) * [-1, 1, 1, -1], rel=0.05, abs=0.004)
    assert row["camera"] == mirrored["camera"] == "complex"


def test_a_reversed_video_moves_back():
    frames = moved([0.1, 0.15, 0.2, 15])
    row, back = motion(frames, RATE), motion(frames[::-1], RATE)
    assert rates_of(back) == pytest.approx(-rates_of(row), rel=0.05, abs=0.004)
    assert back["flow"] == pytest.approx(row["flow"], rel=0.05)


def test_a_still_has_no_motion():
    row = Motion()(Media(picture()[None]))
    assert set(row) == set(Motion.columns) == {"camera", *MEASURES}
    assert set(row.values()) == {None}
    assert set(Motion()(Media(picture()[None], RATE)).values()) == {None}  # a video of one frame


@pytest.mark.parametrize("shape", [(2, 144, 256), (2, 1, 1), (3, 5, 300), (2, 300, 7), (40, 16, 16)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_video_rests(shape, level):
    row = Motion()(Media(np.full((*shape, 3), level, np.uint8), RATE))
    assert row.pop("camera") == "static"
    assert row.pop("matched") == 1
    assert set(row.values()) == {0.0}


def test_two_frames_are_enough():
    row = motion(moved([0.5, 0, 0, 0])[:2], RATE)
    assert row["camera"] == "pan"
    assert row["pan"] == pytest.approx(0.5, rel=0.08)
    assert all(type(row[name]) is float for name in MEASURES)
    assert row["shake"] == pytest.approx(0, abs=1e-9)


def test_frames_without_anything_in_common_say_nothing():
    frames = np.stack([cv2.resize(picture(SEED + k), (W, H), interpolation=cv2.INTER_AREA) for k in range(4)])
    row = motion(frames, 4.0)
    assert row.pop("matched") == 0
    assert set(row.values()) == {None}


def test_a_cut_is_no_motion():
    one, other = (cv2.resize(picture(SEED + k), (W, H), interpolation=cv2.INTER_AREA) for k in range(2))
    row = motion(np.stack([one] * 20 + [other] * 20), RATE)
    assert row["camera"] == "static"
    assert 0.8 < row["matched"] < 1
    assert row["flow"] < 1e-3


def test_a_large_thing_is_not_the_camera():
    still, panned = moved([0, 0, 0, 0]), moved([0.15, 0, 0, 0])
    row = motion(still, RATE)
    assert row["moving"] == row["flow"] == 0
    for frames, kind, speed in ((still, "static", 0.0), (panned, "pan", 0.15)):
        covered, share = passing(np.random.default_rng(SEED), frames, picture(SEED + 1), 0.3, RATE)
        row = motion(covered, RATE)
        assert row["camera"] == kind
        assert row["pan"] == pytest.approx(speed, abs=0.006)
        assert 0.3 * share < row["moving"] < 1.2 * share  # plain parts of the thing show nothing
        assert row["moving_speed"] > 0.01


def test_light_is_no_motion():
    rng = np.random.default_rng(SEED)
    gains = 1 + 0.15 * rng.standard_normal((50, 1, 1, 1))
    row = motion(np.clip(moved([0, 0, 0, 0])[:50] * gains, 0, 255).astype(np.uint8), RATE)
    assert row["camera"] == "static"
    assert row["flow"] < 5e-3
    assert np.abs(rates_of(row)[:2]).max() < 1e-3


def test_a_video_of_a_hand_that_sways():
    rng = np.random.default_rng(SEED)
    planted = video(rng, [picture()], "shake")
    row = motion(planted.frames, planted.rate)
    assert row["camera"] == "shake"
    assert row["shake"] == pytest.approx(planted.shake, rel=0.2)


def test_a_planted_zoom_between_bars():
    planted = video(np.random.default_rng(SEED), [picture()], "zoom", "bars")
    row = motion(planted.frames, planted.rate)
    assert row["camera"] == "zoom"
    assert row["zoom"] == pytest.approx(planted.rates[2], rel=0.1)


def road(*rates: float, n: int = 24) -> Path:
    return Path(np.tile(np.array(rates) / 8, (n, 1)), 1 / 8, 16 / 9)


def test_the_class_of_exact_paths():
    assert camera(road(0, 0, 0, 0)) == "static"
    for k, name in enumerate(CLASSES):
        assert camera(road(*(0.05 * (i == k) for i in range(4)))) == name
        assert camera(road(*(1e-3 * (i == k) for i in range(4)))) == "static"
    assert camera(road(0.05, 0.05, 0, 0)) == "complex"
    assert camera(road(0.05, 0.01, 0, 0)) == "pan"
    back = road(0.1, 0, 0, 0)
    back.steps[12:] *= -1
    assert camera(back) == "complex"
    sway = road(0, 0, 0, 0)
    sway.steps[:, 1] = 0.01 * np.sin(np.arange(24) * 2.1)
    assert camera(sway) == "shake"
    sway.steps[:, 0] = 0.02
    assert camera(sway) == "pan"


def test_an_even_path_has_no_sway():
    smooth, sway = road(0.1, -0.2, 0.05, 0.3).split()
    assert sway == pytest.approx(0, abs=1e-12)
    assert smooth == pytest.approx(road(0.1, -0.2, 0.05, 0.3).lengths)


def field(model, rng, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2), and the flow (1, n, 2) of one similarity."""
    points = rng.uniform(-0.4, 0.4, (n, 2))
    tx, ty, a, b = model
    x, y = points.T
    return points, np.stack([tx + a * x - b * y, ty + b * x + a * y], -1)[None]


MODEL = (0.02, -0.01, 0.03, 0.05)


def test_fit_is_exact_and_ignores_what_moves_otherwise():
    rng = np.random.default_rng(SEED)
    points, flow = field(MODEL, rng)
    trust = np.tile([0.9, 0.9, 0.0], (1, 200, 1))
    assert fit(flow, trust, points)[0] == pytest.approx(MODEL, abs=1e-4)
    inner = np.abs(points).max(1) < 0.28  # half of the frame
    flow[0, inner] += [0.06, 0.04]
    assert fit(flow, trust, points)[0] == pytest.approx(MODEL, abs=5e-4)


def test_plain_parts_do_not_vote_and_edges_only_across():
    rng = np.random.default_rng(SEED)
    points, flow = field(MODEL, rng)
    trust = np.tile([0.9, 0.9, 0.0], (1, 200, 1))
    plain = rng.random(200) < 0.7
    trust[0, plain] = 0
    flow[0, plain] = 0.05
    assert fit(flow, trust, points)[0] == pytest.approx(MODEL, abs=1e-4)
    points, flow = field(MODEL, rng)
    angle = rng.uniform(0, np.pi, 200)
    along = np.stack([np.cos(angle), np.sin(angle)], -1)
    across = np.stack([-np.sin(angle), np.cos(angle)], -1)
    flow[0] += along * rng.normal(0, 0.01, (200, 1))
    trust = 0.9 * np.stack([across[:, 0] ** 2, across[:, 1] ** 2, across[:, 0] * across[:, 1]], -1)[None]
    trust[0, :40] = [0.9, 0.9, 0.0]  # some corners, from which to start
    assert fit(flow, trust, points)[0, :2] == pytest.approx(MODEL[:2], abs=1.5e-3)


def test_steps_of_a_similarity():
    pan, tilt, zoom, roll = steps(np.array([[-0.1, 0.2, 0.0, 0.0]]), 2.0)[0]
    assert pan == pytest.approx(0.1 * np.hypot(2, 1) / 2)
    assert tilt == pytest.approx(0.2 * np.hypot(2, 1))
    assert zoom == roll == 0
    zoom, roll = steps(np.array([[0.0, 0.0, np.cos(0.3) * 1.2 - 1, np.sin(0.3) * 1.2]]), 2.0)[0, 2:]
    assert zoom == pytest.approx(np.log(1.2))
    assert roll == pytest.approx(0.3)


def test_a_similarity_and_its_inverse_compose_to_rest_and_have_opposite_steps():
    t, m = complex(*MODEL[:2]), complex(*MODEL[2:])
    back = (-t / (1 + m), -m / (1 + m))
    inverse = np.array([part for each in back for part in (each.real, each.imag)])
    assert composed(np.array(MODEL), inverse) == pytest.approx(np.zeros(4), abs=1e-12)
    assert steps(inverse[None], 1.5) == pytest.approx(-steps(np.array([MODEL]), 1.5))
