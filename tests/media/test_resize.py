"""Sizes, aspects and crops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diorama.media import center_crop, cover, crop, resize, scale

side = st.integers(1, 500)


@given(side, side, side, side)
def test_cover_is_the_least_size_that_covers(height, width, h, w):
    y, x = cover(height, width, h, w)
    assert y >= h
    assert x >= w
    assert y == h or x == w
    assert abs(x - width * max(h / height, w / width)) <= 0.5
    assert abs(y - height * max(h / height, w / width)) <= 0.5


def test_resize_keeps_aspect_and_mean():
    y, x = np.mgrid[:90, :160]
    frames = np.stack([x, y, x + y], -1).astype(np.uint8)[None].repeat(2, 0)
    out = resize(frames, 32, 32)
    assert out.shape == (2, 32, 57, 3)
    np.testing.assert_allclose(out.mean((0, 1, 2)), frames.mean((0, 1, 2)), atol=1)
    assert center_crop(out, 32, 32).shape == (2, 32, 32, 3)


def test_shrinking_averages_instead_of_aliasing():
    checks = (np.indices((128, 128)).sum(0) % 2 * 255).astype(np.uint8)[None, ..., None].repeat(3, -1)
    small = scale(checks, 16, 16)
    np.testing.assert_allclose(small.astype(int), 127, atol=3)


def test_same_size_is_the_same():
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(resize(frames, 8, 8), frames)


def test_crops():
    frames = np.arange(2 * 6 * 8 * 3).reshape(2, 6, 8, 3)
    np.testing.assert_array_equal(crop(frames, 1, 2, 3, 4), frames[:, 1:4, 2:6])
    np.testing.assert_array_equal(center_crop(frames, 4, 4), frames[:, 1:5, 2:6])
    with pytest.raises(ValueError, match="leaves"):
        crop(frames, 4, 0, 3, 3)
