"""Through other codecs and back."""

import numpy as np
import pytest

from diorama.media.recode import recode_stills, recode_videos


def pictures(n, t, h, w):
    """Smooth pictures whose content moves."""
    y, x = np.mgrid[:h, :w] / max(h, w)
    clips = [
        [np.stack([np.sin(6 * (x + 0.02 * k) + i), np.cos(5 * y + i), x * y], -1) for k in range(t)] for i in range(n)
    ]
    return np.clip(127.5 + 100 * np.array(clips), 0, 255).astype(np.uint8)


def error(a, b):
    return np.abs(a.astype(float) - b).mean()


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
def test_better_stills_take_more_bits(form):
    stills = pictures(7, 1, 40, 52)[:, 0]
    (bad, few), (good, many) = (recode_stills(stills, form, quality) for quality in (10, 90))
    assert bad.shape == good.shape == stills.shape
    assert few < many
    assert error(good, stills) < error(bad, stills)
    assert error(good, stills) < 4
    again, bits = recode_stills(stills[:1], form, 90)
    assert error(again, stills[:1]) < 4
    assert bits < many


@pytest.mark.parametrize("form", ["libx264", "libx265"])
def test_better_videos_take_more_bits(form):
    clips = pictures(3, 9, 38, 50)
    (bad, few), (good, many) = (recode_videos(clips, form, quality) for quality in (45, 15))
    assert bad.shape == good.shape == clips.shape
    assert few < many
    assert error(good, clips) < error(bad, clips)
    assert error(good, clips) < 4


@pytest.mark.parametrize("form", ["libx264", "libx265"])
def test_clips_do_not_help_each_other(form):
    """Every clip begins with a key frame: the same clip twice takes about twice the bits."""
    clips = np.random.default_rng(0).integers(0, 256, (1, 5, 32, 32, 3), np.uint8)
    (_, one), (_, two) = (recode_videos(np.repeat(clips, n, 0), form, 20) for n in (1, 2))
    assert two > 1.8 * one


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
def test_what_fills_the_picture_is_not_counted(form):
    """Eight stills take three by three places; nine times the same one take as much a still."""
    still = np.repeat(pictures(1, 1, 32, 32)[:, 0], 9, axis=0)
    (_, eight), (_, nine) = (recode_stills(still[:n], form, 80) for n in (8, 9))
    assert eight == pytest.approx(nine * 8 / 9, rel=1e-3)
