"""Rate and distortion."""

import numpy as np
import pytest

from diorama.evaluate.rate import Curve, Point, codec_curve, latent_bits, other_curves, quantised_curve, resized
from diorama.evaluate.reconstruction import psnr

RNG = np.random.default_rng(0)


def clips(n, t, h=32, w=48):
    y, x = np.mgrid[:h, :w] / h
    waves = [
        [np.stack([np.sin(6 * x + 0.1 * k + i), np.cos(5 * y - i), np.sin(4 * (x + y))], -1) for k in range(t)]
        for i in range(n)
    ]
    return np.clip(127.5 + 90 * np.array(waves) + RNG.normal(0, 4, (n, t, h, w, 3)), 0, 255).astype(np.uint8)


def test_bits_are_the_entropy():
    even = RNG.integers(-4, 4, (200, 1, 8, 8, 2))
    assert latent_bits(even) / even.size == pytest.approx(3, rel=2e-3)
    p = np.array([0.5, 0.25, 0.125, 0.125])
    drawn = RNG.choice(4, size=(200, 1, 8, 8, 1), p=p)
    assert latent_bits(drawn) / drawn.size == pytest.approx(1.75, rel=1e-2)
    assert latent_bits(np.full((200, 1, 8, 8, 1), 7)) == 0
    # channels are counted by themselves: one that never changes costs nothing beside one that does
    both = np.concatenate([drawn, np.zeros_like(drawn)], -1)
    assert latent_bits(both) == pytest.approx(latent_bits(drawn))


def test_a_table_is_not_made_for_what_it_codes():
    """Two halves with nothing in common: every level is new to the table of the other half, and dear."""
    levels = np.zeros((10, 1, 4, 4, 1), int)
    levels[1::2] = 1
    assert latent_bits(levels) / levels.size > 5


def test_finer_steps_cost_bits_and_gain_decibels():
    media = clips(6, 1)
    curve = codec_curve(media, media / 64.0, lambda z: np.clip(np.rint(z * 64), 0, 255).astype(np.uint8))
    bits, quality = [p.bits for p in curve.points], [p.psnr for p in curve.points]
    assert bits == sorted(bits)
    assert quality == sorted(quality)
    assert curve.points[-1].psnr == pytest.approx(10 * np.log10(255**2 / (8**2 / 12)), abs=0.6)  # of uniform rounding


def test_a_curve_is_read_between_its_points():
    curve = Curve("x", (Point(0.1, 20, 0.5), Point(1.0, 30, 0.9)))
    assert curve.at(10**-0.5) == pytest.approx(25)
    assert curve.at(1.0, "ssim") == pytest.approx(0.9)
    assert curve.at(0.05) is None
    assert curve.at(2) is None


@pytest.mark.parametrize(("t", "names"), [(1, ["JPEG", "WebP", "AVIF"]), (5, ["H.264", "H.265"])])
def test_the_codecs_of_the_world(t, names):
    curves = other_curves(clips(4, t))
    assert [curve.name for curve in curves] == names
    for curve in curves:
        assert curve.points[-1].psnr > curve.points[0].psnr + 3
        assert curve.points[-1].bits > 3 * curve.points[0].bits


def test_resizing_keeps_as_many_numbers():
    media = clips(3, 2)
    np.testing.assert_array_equal(resized(media, media[0].size), media)
    few, many = (psnr(media, resized(media, media[0].size // part)).mean() for part in (64, 4))
    assert few < many


def test_integers_are_counted_as_they_are():
    """Latents that are integers already give one point: their own bits, and what they decode to."""
    media = clips(4, 1)
    levels = RNG.integers(0, 5, (4, 1, 4, 6, 2))
    again = np.clip(media.astype(int) + 3, 0, 255).astype(np.uint8)
    [point] = quantised_curve(media, again, levels).points
    assert point.bits == pytest.approx(latent_bits(levels) / (4 * 32 * 48))
    assert point.psnr == pytest.approx(psnr(media, again).mean())
