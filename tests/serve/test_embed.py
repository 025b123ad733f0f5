"""What is embedded comes back out of the page as it went in."""

import base64
import re

import numpy as np
import pytest

from diorama.media import read
from diorama.serve.embed import joined, shown, strip


def payload(element: str) -> bytes:
    return base64.b64decode(re.search(r"base64,([^\"]+)\"", element)[1])


def test_a_still_is_exact(rng):
    still = rng.integers(0, 256, (1, 24, 32, 3), np.uint8)
    element = shown(still, 8.0, 'a "quoted" <caption>')
    assert element.startswith('<img class="clip px" width="128" height="96"')
    assert "<caption>" not in element
    np.testing.assert_array_equal(read(payload(element)).frames, still)


def test_a_clip_of_few_colours_is_exact(rng):
    grey = rng.integers(0, 256, (5, 16, 16, 1), np.uint8).repeat(3, axis=3)
    element = shown(grey, 8.0)
    assert "image/gif" in element
    np.testing.assert_array_equal(read(payload(element)).frames, grey)


def test_a_clip_of_many_colours_keeps_its_frames():
    y, x = np.mgrid[:32, :48]
    clip = np.stack([np.stack([5 * x, 7 * y, 2 * x + y + 10 * t], -1) for t in range(4)]).astype(np.uint8)
    element = shown(clip, 8.0)
    assert element.startswith("<video ")
    frames = read(payload(element)).frames
    assert frames.shape == (4, 96, 144, 3)  # each pixel 3 x 3
    assert np.abs(frames[:, 1::3, 1::3].astype(int) - clip).mean() < 4


@pytest.mark.parametrize(("h", "w", "size"), [(64, 64, (96, 96)), (300, 600, (96, 192)), (8, 8, (96, 96))])
def test_every_size_is_a_tile_high(h, w, size):
    element = shown(np.zeros((1, h, w, 3), np.uint8), 8.0)
    assert f'width="{size[1]}" height="{size[0]}"' in element
    assert min(read(payload(element)).frames.shape[1:3]) <= 192


def test_joined_and_strip(rng):
    a, b = rng.integers(0, 256, (2, 3, 4, 5, 3), np.uint8)
    beside = joined([a, b], 2)
    assert beside.shape == (3, 4, 11, 3)
    np.testing.assert_array_equal(beside[:, :, 6:], b)
    assert (beside[:, :, 5] == 128).all()
    frames = read(payload(strip(a))).frames[0]
    np.testing.assert_array_equal(frames, np.concatenate(list(joined([a[:1], a[1:2], a[2:]], 2)), axis=1))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
