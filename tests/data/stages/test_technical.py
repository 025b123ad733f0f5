"""Technical measures: against known truths, and on planted defects of seeds on which no threshold was chosen."""

import warnings

import cv2
import numpy as np
import pytest

from benchmarks.planted.defects import CLIPS, HARD, PICTURES, clip, dark, defects, encoded, jpeg, on_twos, stored
from benchmarks.planted.originals import synthetic
from diorama.data.stages.technical import MEASURES, PICTURE, _half, _least_ratio, _sharpness, technical
from diorama.media import Media

SEED = 7_000_000
ORIGINALS = [synthetic(np.random.default_rng(SEED + i)) for i in range(8)]
SKIES = [synthetic(np.random.default_rng(SEED + i), smooth=True) for i in range(8)]


def measures(picture: np.ndarray) -> dict[str, float | None]:
    return technical(Media(picture[None]))


def moving(frames: np.ndarray, **sound) -> dict[str, float | None]:
    return technical(Media(frames, 25.0, **sound))


@pytest.mark.parametrize(
    "frames",
    [
        *(
            np.full((1, h, w, 3), level, np.uint8)
            for h, w in ((1, 1), (1, 300), (40, 7), (64, 64))
            for level in (0, 90, 255)
        ),
        np.random.default_rng(0).integers(0, 256, (1, 33, 65, 3), dtype=np.uint8),
        np.repeat(np.random.default_rng(0).integers(0, 256, (1, 70, 80, 1), dtype=np.uint8), 3, -1),
        np.zeros((2, 1, 1, 3), np.uint8),
        np.zeros((9, 32, 48, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (3, 5, 200, 3), dtype=np.uint8),
    ],
    ids=lambda frames: "x".join(map(str, frames.shape)) + f" {frames.mean():.0f}",
)
def test_any_frames_give_every_measure(frames):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = technical(Media(frames, 25.0 if len(frames) > 1 else None))
    assert list(row) == list(MEASURES)
    assert all(value is None or (type(value) is float and np.isfinite(value)) for value in row.values())
    defects(row)


def test_what_does_not_apply_is_none():
    still, silent = measures(ORIGINALS[0]), moving(np.stack([ORIGINALS[0]] * 3))
    of_video = (
        "motion",
        "change",
        "frozen",
        "cadence",
        "flicker",
        "ramp",
        "overlay",
        "sound",
        "sound_level",
        "silence",
    )
    assert all(still[name] is None for name in of_video)
    assert silent["sound"] == 0
    assert silent["sound_level"] is None


@pytest.mark.parametrize("kind", ["focus", "motion"])
def test_sharpness_falls_with_blur(kind):
    for picture in ORIGINALS[:3]:
        values = []
        for size in (1, 3, 5, 9, 15):
            kernel = np.eye(size) if kind == "motion" else cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
            values.append(measures(cv2.filter2D(picture, -1, kernel / kernel.sum()))["sharpness"])
        assert values == sorted(values, reverse=True)
        assert values[0] > 3 * values[-1] / 2


def test_sharpness_does_not_depend_on_brightness_or_contrast():
    for picture in ORIGINALS[:4]:
        plain = measures(picture)["sharpness"]
        for other in (picture // 2, picture // 2 + 120, 255 - picture):
            assert measures(other)["sharpness"] == pytest.approx(plain, rel=0.1)


def test_sharpness_needs_edges():
    y = np.linspace(60, 200, 256)
    ramp = np.broadcast_to(y[:, None, None], (256, 256, 3)).astype(np.uint8)
    assert measures(ramp)["sharpness"] is None
    assert not any("blurred" in defects(measures(stored(np.random.default_rng(0), sky))) for sky in SKIES)


def test_exposure():
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[:, ::4] = 200
    row = measures(picture)
    assert row["brightness"] == pytest.approx(50)
    assert row["contrast"] == pytest.approx(200 * np.sqrt(0.25 * 0.75))
    assert row["entropy"] == pytest.approx(-0.25 * np.log2(0.25) - 0.75 * np.log2(0.75))
    assert (row["black"], row["white"], row["chroma"], row["colourfulness"]) == (0.75, 0, 0, 0)


def plain_sharpness(luma: np.ndarray, noise: float) -> float | None:
    """The definition, a cell at a time: the largest of four quadrants' least ratios of fine to coarse energy."""
    h, w = (side // 4 for side in luma.shape)
    quarter = cv2.resize(_half(luma)[: 2 * h, : 2 * w], (w, h), interpolation=cv2.INTER_AREA)
    coarse = np.float64(cv2.spatialGradient(quarter)) / 32
    fine = np.float64(cv2.spatialGradient(np.ascontiguousarray(luma[: 4 * h, : 4 * w]))) / 8
    energy = (coarse**2).sum(0)
    strong = np.sort(energy, axis=None)[int(0.97 * energy.size)]
    ratios, near = [], cv2.dilate(np.uint8(energy >= strong), np.ones((3, 3)))
    for top in (True, False):
        for left in (True, False):
            cells = [(y, x) for y, x in np.argwhere(near) if (2 * y < h) == top and (2 * x < w) == left]
            if len(cells) < max(20, 0.06 * near.sum()):
                continue
            gradients = (
                np.array([fine[:, 4 * y : 4 * y + 4 : 2, 4 * x : 4 * x + 4] for y, x in cells]),  # every other row
                np.array([coarse[:, y, x] for y, x in cells]),
            )
            tensors = [((g[:, 0] ** 2).mean(), (g[:, 1] ** 2).mean(), (g[:, 0] * g[:, 1]).mean()) for g in gradients]
            (xx, yy, xy), least = tensors[0], 12 / 64 * noise**2
            ratios.append(_least_ratio((max(xx - least, 0.0), max(yy - least, 0.0), xy), tensors[1]))
    return max((ratio for ratio in ratios if ratio is not None), default=None)


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_sharpness_is_its_definition(noise):
    for picture in (*ORIGINALS[:4], cv2.blur(ORIGINALS[4], (9, 1)), ORIGINALS[5][:201, :67]):
        luma = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
        found = _sharpness(luma, _half(luma), noise)["sharpness"]
        assert found == pytest.approx(plain_sharpness(luma, noise), rel=1e-4)


def test_colour_is_its_definition():
    rng = np.random.default_rng(0)
    for h, w in ((32, 32), (32, 63), (41, 33)):  # small enough that every pixel counts
        picture = rng.integers(0, 256, (h, w, 3), dtype=np.uint8) // np.array([1, 2, 3], np.uint8)
        r, g, b = np.float64(picture).transpose(2, 0, 1)
        opponents = np.array([r - g, (r + g) / 2 - b])
        spread, mean = (np.hypot(*of.tolist()) for of in (opponents.std((1, 2)), opponents.mean((1, 2))))
        spans = np.sort(np.ptp(picture, 2), axis=None)
        row = measures(picture)
        assert row["colourfulness"] == pytest.approx(spread + 0.3 * mean, rel=1e-9)
        assert row["chroma"] == next(level for level in spans if np.mean(spans <= level) >= 0.98)


def test_cutoff_is_its_definition():
    for picture in ORIGINALS:
        luma = np.float64(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
        (h, w), n = luma.shape, 256
        y, x = (h - n) // 2, (w - n) // 2
        rows = luma[h // 32 :: h // 16, x : x + n][:16]
        columns = luma[y : y + n, w // 32 :: w // 16].T[:16]
        steps = np.pad(np.diff(np.concatenate([rows, columns])), ((0, 0), (0, 1)))
        power = (np.abs(np.fft.rfft(steps * np.hanning(n))) ** 2).sum(0)[1:-1]
        share = np.cumsum(power) / power.sum()
        assert measures(picture)["cutoff"] == pytest.approx(2 / n * (1 + np.argmax(share >= 0.99)), abs=2.1 / n)


def test_a_clip_of_one_picture_measures_as_the_picture():
    still, clip = measures(ORIGINALS[3]), moving(np.stack([ORIGINALS[3]] * 7))
    assert [clip[name] for name in PICTURE] == [still[name] for name in PICTURE]


def test_noise_is_its_standard_deviation():
    rng = np.random.default_rng(0)
    for sigma in (1.0, 2.0, 5.0, 10.0):
        row = measures((120 + rng.normal(0, sigma, (256, 256, 1)).repeat(3, 2) + 0.5).astype(np.uint8))
        assert row["noise"] == pytest.approx(np.hypot(sigma, 12**-0.5), rel=0.1)


def test_cutoff_tells_enlarged_pictures():
    for picture in ORIGINALS[:4]:
        h, w = picture.shape[:2]
        small = cv2.resize(picture, (w // 4, h // 4), interpolation=cv2.INTER_AREA)
        large = cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)
        assert measures(large)["cutoff"] < 0.5 < 0.75 < measures(picture)["cutoff"]


def test_blockiness_rises_as_quality_falls_and_outlives_a_crop():
    for picture in ORIGINALS[:3]:
        values = [measures(jpeg(picture, quality))["blockiness"] for quality in (95, 50, 25, 10, 4)]
        assert values == sorted(values)
        cropped = measures(jpeg(np.ascontiguousarray(jpeg(picture, 4)[3:, 5:]), 95))["blockiness"]
        assert cropped == pytest.approx(values[-1], rel=0.2)


def test_faint_grids_and_frames_are_not_blocky():
    rng = np.random.default_rng(SEED)
    for i, picture in enumerate(ORIGINALS):
        for make in HARD.values():
            assert "blocky" not in defects(measures(jpeg(make(rng, picture), 45)))
            assert "blocky" not in defects(measures(stored(rng, dark(rng, picture))))
        framed = cv2.rectangle(picture.copy(), (10 + i, 20), (200, 210 - i), (255, 255, 255), 1 + i % 3)
        assert "blocky" not in defects(measures(framed))


@pytest.mark.parametrize("colour", [0, 255, 128])
def test_bars_are_found_to_the_pixel(colour):
    sizes = {"bar_top": 20, "bar_bottom": 12, "bar_left": 0, "bar_right": 32}
    picture = ORIGINALS[1].copy()
    h, w = picture.shape[:2]
    picture[:20] = picture[-12:] = picture[:, -32:] = colour
    row = measures(picture)
    assert {name: row[name] * (h if name in ("bar_top", "bar_bottom") else w) for name in sizes} == pytest.approx(sizes)
    inside = measures(np.ascontiguousarray(picture[20:-12, :-32]))
    others = [name for name in inside if not name.startswith("bar")]
    assert [row[name] for name in others] == [inside[name] for name in others]


def test_plain_grounds_are_no_bars():
    for i, picture in enumerate(ORIGINALS):
        row = measures(HARD["high key"](np.random.default_rng(i), picture))
        assert row["bars"] == 0
    assert all(measures(sky)["bars"] == 0 for sky in SKIES)


def test_frozen_frames_are_counted():
    frames = clip(np.random.default_rng(1), ORIGINALS[0])
    assert moving(frames)["frozen"] == 0
    frames[10:20] = frames[10]
    row = moving(frames)
    assert row["frozen"] == row["hold"] == 9 / 39
    assert row["cadence"] < 0.3
    twos = moving(on_twos(np.random.default_rng(1), frames[:8].repeat(1, 0)))
    assert twos["cadence"] == pytest.approx(1)


def test_static_motion_and_ramp():
    still = np.stack([ORIGINALS[2]] * 12)
    row = moving(still)
    assert (row["motion"], row["change"], row["frozen"], row["ramp"], row["overlay"]) == (0, 0, 1, None, None)
    scene = cv2.resize(ORIGINALS[2], (900, 300))

    def pan(steps):
        return np.stack([scene[:, x : x + 300] for x in np.cumsum(steps)])

    slow, fast = moving(pan([2] * 20)), moving(pan([8] * 20))
    assert fast["motion"] > 1.5 * slow["motion"] > 0
    assert abs(slow["ramp"]) < 0.3
    assert moving(pan([2] * 20 + [8] * 20))["ramp"] > 0.7
    assert moving(pan([8] * 20 + [2] * 20))["ramp"] < -0.7


def test_edges_that_move_along_themselves_are_no_overlay():
    rng = np.random.default_rng(SEED)
    wall = cv2.resize(rng.uniform(0, 100, (60, 16)).astype(np.float32), (256, 960), interpolation=cv2.INTER_CUBIC)
    wall[:, 100:104] += 120  # a mast, before which the camera sinks
    frames = np.stack([wall[y : y + 192, :, None].repeat(3, 2) for y in range(0, 480, 40)]).clip(0, 255)
    frames = frames.astype(np.uint8)
    assert moving(frames)["overlay"] < 0.002
    for frame in frames:
        cv2.putText(frame, "SAMPLE", (20, 120), cv2.FONT_HERSHEY_SIMPLEX, 2, (255, 255, 255), 3)
    assert moving(frames)["overlay"] > 0.004


def test_flicker_is_its_amplitude():
    level = np.full((20, 40, 40, 3), 100, np.uint8)
    level[::2] += 6
    assert moving(level)["flicker"] == pytest.approx(6)
    assert (
        moving((50 + 5 * np.arange(20, dtype=np.uint8))[:, None, None, None].repeat(40, 1).repeat(40, 2).repeat(3, 3))[
            "flicker"
        ]
        == 0
    )


def test_sound_of_a_sine():
    rate, seconds = 16_000, 2
    time = np.arange(rate * seconds) / rate
    sine = (0.5 * np.sin(2 * np.pi * 440 * time))[:, None].repeat(2, 1).astype(np.float32)
    sine[: rate // 2] = 0
    row = moving(np.zeros((3, 8, 8, 3), np.uint8), sound=sine, sound_rate=rate)
    assert row["sound"] == 1
    assert row["sound_level"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)) + 10 * np.log10(0.75), abs=0.01)
    assert row["silence"] == pytest.approx(0.25)
    assert row["sound_clipping"] == 0
    row = moving(np.zeros((3, 8, 8, 3), np.uint8), sound=np.clip(4 * sine, -1, 1), sound_rate=rate)
    assert row["sound_clipping"] > 0.4


def test_planted_defects_are_found():
    rng = np.random.default_rng(SEED)
    clean = [stored(rng, make(rng, picture)) for picture in ORIGINALS for make in (lambda _, p: p, *HARD.values())]
    clean += [stored(rng, sky) for sky in SKIES]
    false = [name for picture in clean for name in defects(measures(picture))]
    assert len(false) <= 2
    missed = [
        kind
        for kind, makers in PICTURES.items()
        for i, picture in enumerate(ORIGINALS)
        if kind != "overlaid"  # no measure tells it on a still
        and kind not in defects(measures(stored(rng, makers[i % len(makers)](rng, picture))))
    ]
    assert len(missed) <= 2


def test_planted_defects_of_clips_are_found():
    rng = np.random.default_rng(SEED)
    found = {kind: [] for kind in ("clean", *CLIPS)}
    for picture in ORIGINALS[:3]:
        frames = clip(rng, picture, t=24)
        for kind in found:
            damaged = CLIPS[kind](rng, frames) if kind in CLIPS else frames
            found[kind].append(defects(moving(encoded(rng, damaged))))
    assert not any(found["clean"])
    assert all("static" in names for names in found["static"])
    assert all("frozen" in names and "static" not in names for names in found["frozen"])
    assert sum("overlaid" in names for names in found["overlaid"]) >= 2  # on a tripod little changes behind it
