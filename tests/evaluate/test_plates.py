"""Plates hold the errors that they say."""

import numpy as np
import pytest

from diorama.evaluate.plates import bit_depths, contrast_chart, octave_noise, photograph
from diorama.process import rapsd
from diorama.process.spectrum import octaves, share_in_space


def test_bits_are_as_many_as_said():
    picture = photograph()[:96, :128]
    plates = bit_depths(picture)
    assert next(iter(plates)) == "8 bits"
    assert list(plates)[-1] == "1 bit"
    np.testing.assert_array_equal(plates["8 bits"][0], picture)
    for bits, (rounded, noisy) in zip(range(8, 0, -1), plates.values(), strict=True):
        assert len(np.unique(rounded)) <= 2**bits
        assert len(np.unique(noisy)) <= 2**bits
        assert np.abs(rounded.astype(int) - picture).max() <= 127.5 / (2**bits - 1) + 0.5


def test_noise_makes_the_error_larger_and_keeps_the_mean():
    grey = np.full((64, 64, 3), 100, np.uint8)
    rounded, noisy = bit_depths(grey)["2 bits"]
    assert (rounded == 85).all()
    assert noisy.mean() == pytest.approx(100, abs=1)
    assert ((noisy - 100.0) ** 2).mean() > ((rounded - 100.0) ** 2).mean()


def test_noise_of_equal_energy_lies_in_its_octave():
    grey = np.full((64, 80, 3), 128, np.uint8)
    plates = octave_noise(grey, amplitude=20.0)
    assert list(plates) == ["1 to 2 cycles", "2 to 4 cycles", "4 to 8 cycles", "8 to 16 cycles", "16 to 32 cycles",
                            "32 cycles and finer"]  # fmt: skip
    for i, plate in enumerate(list(plates.values())[:-1]):
        noise = plate[..., :1].astype(np.float32) - 128
        assert noise.std() == pytest.approx(20, rel=0.01)
        found = octaves(np.asarray(rapsd(noise))[:, 0], share_in_space(64, 80))
        assert found[i] > 0.99 * found.sum()


def test_the_chart_grows_finer_to_the_right_and_fainter_upwards():
    chart = contrast_chart()[..., 0].astype(float)
    assert chart.shape == (384, 768)
    spread = [chart[rows].std() for rows in (slice(0, 40), slice(172, 212), slice(344, 384))]
    assert spread[0] < 2 < spread[1] < spread[2] / 4
    crossings = np.abs(np.diff(np.sign(chart[-1] - 127.5))) > 0
    assert crossings[:384].sum() < 40 < crossings[384:].sum()
