"""Sizes, frames and cuts of the small pictures, by their definition."""

import cv2
import numpy as np
import pytest

from diorama.data.stages.preview import LONGEST, THUMBNAIL, Preview, thumbnail
from diorama.media import Media


def decoded(jpeg: bytes) -> np.ndarray:
    """(h, w, 3) uint8."""
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def levels(*values: int, h: int = 300, w: int = 400) -> Media:
    """A video of frames that are even grey, or a still."""
    return Media(np.stack([np.full((h, w, 3), value, np.uint8) for value in values]))


@pytest.mark.parametrize(
    ("size", "image", "small"),
    [
        ((300, 400), (224, 299), (160, 214)),
        ((400, 300), (299, 224), (214, 160)),
        ((1000, 1000), (224, 224), (160, 160)),
        ((300, 600), (224, 448), (160, 320)),  # as long as it may be
        ((2000, 300), (1493, 224), (320, 160)),
        ((180, 240), (180, 240), (160, 213)),
        ((48, 64), (48, 64), (48, 64)),  # never enlarged
        ((10, 1000), (10, 1000), (10, 20)),
        ((1, 1), (1, 1), (1, 1)),
    ],
)
def test_sizes(size, image, small):
    assert (THUMBNAIL, LONGEST) == (160, 2)
    found = Preview()(levels(100, h=size[0], w=size[1]))
    [stored] = found["images"]
    assert (decoded(stored).shape, decoded(found["thumbnail"]).shape) == ((*image, 3), (*small, 3))
    assert found["at"] == [0]


@pytest.mark.parametrize(("t", "at"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (40, [5, 15, 25, 35])])
def test_the_thumbnail_is_the_picture_in_the_middle(t, at):
    found = Preview()(levels(*range(10, 10 + 6 * t, 6)))
    assert found["at"] == at
    seen = [round(decoded(jpeg).mean()) for jpeg in found["images"]]
    assert seen == pytest.approx([10 + 6 * k for k in at], abs=1)
    assert decoded(found["thumbnail"]).mean() == pytest.approx(10 + 6 * at[len(at) // 2], abs=1)


@pytest.mark.parametrize("upright", [False, True])
def test_what_is_cut_off_lies_at_both_ends(upright):
    frame = np.zeros((100, 600, 3), np.uint8)
    frame[:, :200, 0] = frame[:, 200:400, 1] = frame[:, 400:, 2] = 255  # red, green, blue
    seen = decoded(thumbnail(frame.transpose(1, 0, 2) if upright else frame))
    assert seen.shape == ((200, 100, 3) if upright else (100, 200, 3))
    assert np.abs(seen.astype(int) - (0, 255, 0)).max() <= 8


def test_a_thumbnail_keeps_what_is_in_it():
    """A fine grating that 160 pixels can still hold keeps its contrast: it is shrunk once, without blur."""
    grating = 128 + 100 * np.sin(2 * np.pi * np.arange(640) / 32)  # 8 pixels a period afterwards
    frame = np.repeat(np.tile(grating, (640, 1))[..., None], 3, 2).astype(np.uint8)
    seen = decoded(Preview()(Media(frame[None]))["thumbnail"]).astype(float)
    assert seen[8:-8, 8:-8].max() - seen[8:-8, 8:-8].min() > 0.8 * 200
