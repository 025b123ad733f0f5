"""The alarm for grids: found where they are planted, and rarely where they are not."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.datasets import load_sample_images

from diorama.core import UserError
from diorama.evaluate.artefacts import contrast, grid_alarm

PERIODS = (2, 4, 8)


def fields(n: int, exponent: float = 2.0, t: int = 1, size: int = 32, seed: int = 0) -> np.ndarray:
    """Random fields (n, t, size, size, 3) of a standard deviation of 40 grey levels; crops, so not periodic."""
    rng, whole = np.random.default_rng(seed), 2 * size
    k = np.maximum(np.hypot(*np.meshgrid(*[np.fft.fftfreq(whole) * whole] * 2, indexing="ij")), 1)
    noise = np.fft.fft2(rng.normal(size=(n, t, whole, whole, 3)), axes=(2, 3))
    x = np.fft.ifft2(noise * (k ** (-exponent / 2))[..., None], axes=(2, 3)).real[:, :, :size, :size]
    return np.clip(np.rint(128 + 40 * x / x.std()), 0, 255).astype(np.uint8)


def planted(clips: np.ndarray, pattern: np.ndarray, amplitude: float) -> np.ndarray:
    """Clips with a pattern of a standard deviation of `amplitude` grey levels."""
    times = clips.shape[2] // len(pattern)
    pattern = np.tile((pattern - pattern.mean()) / pattern.std(), (times, times))[:, :, None]
    return np.clip(np.rint(clips + amplitude * pattern), 0, 255).astype(np.uint8)


CHECKERS = np.indices((2, 2)).sum(0) % 2.0
LINES = np.where((np.indices((8, 8)) == 0).any(0), 1.0, 0.0)


@pytest.mark.parametrize(("pattern", "amplitude"), [(CHECKERS, 1.0), (LINES, 2.0)], ids=["checkers", "lines"])
@pytest.mark.parametrize("t", [1, 5])
def test_a_faint_grid_is_found(pattern, amplitude, t):
    """At a fortieth and a twentieth of the content's deviation, in two dozen stills of 32 pixels."""
    samples, data = fields(24, t=t), fields(32, t=t, seed=1)
    assert not any(alarm.verdict for alarm in grid_alarm(samples, data, PERIODS))
    alarms = {alarm.period: alarm for alarm in grid_alarm(planted(samples, pattern, amplitude), data, PERIODS)}
    assert any(alarm.verdict for alarm in alarms.values())
    assert alarms[len(pattern)].value > alarms[len(pattern)].reference


@pytest.mark.parametrize("pattern", [CHECKERS, LINES], ids=["checkers", "lines"])
def test_how_strong_a_grid_is(pattern):
    samples, data, period = fields(24, t=5), fields(32, t=5, seed=1), len(pattern)
    for amplitude in (4.0, 8.0):
        (alarm,) = grid_alarm(planted(samples, pattern, amplitude), data, (period,))
        assert alarm.verdict
        assert alarm.amplitude == pytest.approx(amplitude, rel=0.25)


def test_a_larger_picture_tells_a_fainter_grid():
    samples, data = fields(24, size=96), fields(24, size=96, seed=1)
    (alarm,) = grid_alarm(planted(samples, LINES, 1.0), data, (8,))
    assert alarm.verdict
    assert not grid_alarm(samples, data, (8,))[0].verdict


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_contrast_does_not_ask_how_sharp_a_picture_is(exponent):
    clips = fields(96, exponent)
    for period, slack in zip(PERIODS, (0.25, 0.08, 0.05), strict=True):  # three standard errors
        assert contrast(clips, period).mean() == pytest.approx(
            contrast(fields(96, 0.0, seed=9), period).mean(), abs=slack
        )


def tiles() -> np.ndarray:
    """Pieces (n, 1, 32, 32, 3) of two photos."""
    whole = [image[:416].reshape(13, 32, 20, 32, 3).swapaxes(1, 2) for image in load_sample_images().images]
    return np.concatenate([image.reshape(-1, 1, 32, 32, 3) for image in whole])


@pytest.mark.parametrize("clips", [fields(800), tiles()], ids=["fields", "photos"])
def test_false_alarms_stay_below_one_in_a_hundred(clips):
    """Many draws of two halves, by the alarm's own test: it sounds in less than 1 % of them (its rate is 0.1 %)."""
    rng, seen = np.random.default_rng(0), {period: contrast(clips, period) for period in PERIODS}
    drawn = np.array([rng.permutation(len(clips))[:48] for _ in range(2000)])
    chances = [
        mannwhitneyu(values[drawn[:, :24]], values[drawn[:, 24:]], alternative="greater", axis=1).pvalue
        for values in seen.values()
    ]
    assert (np.min(chances, axis=0) < 0.001 / 3).mean() < 0.01
    for i in range(10):
        assert not any(a.verdict for a in grid_alarm(clips[drawn[i, :24]], clips[drawn[i, 24:]], PERIODS))


def test_blocks_that_the_data_have_are_no_fault_of_samples():
    samples, data = (planted(fields(24, seed=seed), LINES, 4.0) for seed in (0, 1))
    assert not any(alarm.verdict for alarm in grid_alarm(samples, data, PERIODS))


def test_blank_clips_sound_no_alarm():
    blank = np.zeros((16, 1, 32, 32, 3), np.uint8)
    assert [(a.value, a.amplitude, a.verdict) for a in grid_alarm(blank, blank, (4,))] == [(0, 0, False)]


def test_periods_that_do_not_fit_and_clips_that_are_too_few():
    clips = fields(16)
    assert [a.period for a in grid_alarm(clips, clips, (8, 1, 16, 2, 8))] == [2, 8]
    assert grid_alarm(clips, clips, (16,)) == ()
    with pytest.raises(UserError, match="3 samples and 16 clips are too few"):
        grid_alarm(clips[:3], clips, (8,))


def test_to_have_what_data_lack_is_no_grid():
    """A mean of neighbours has nothing at two pixels; so it is with pictures that were enlarged."""
    sharp = fields(24, 0.0, seed=1).astype(float)
    data = np.rint((sharp + np.roll(sharp, 1, 2) + np.roll(sharp, 1, 3) + np.roll(sharp, (1, 1), (2, 3))) / 4).astype(
        np.uint8
    )
    samples = fields(24)
    assert contrast(data, 2).mean() < -0.5 < contrast(samples, 2).mean()
    assert not any(alarm.verdict for alarm in grid_alarm(samples, data, PERIODS))
    assert grid_alarm(planted(samples, CHECKERS, 2.0), data, PERIODS)[0].verdict
