import numpy as np
import pytest

from diorama.evaluate import directions, velocities
from tests.evaluate.toys import VELOCITY, digit_clips


def test_tracker_is_right_on_every_clip_with_a_known_motion() -> None:
    clips, _, names = digit_clips(200, 9, "test")
    assert directions(clips) == names
    want = np.array([VELOCITY[name] for name in names])
    np.testing.assert_allclose(velocities(clips), want, atol=1e-3)


def test_tracker_bears_noise_and_a_grey_background() -> None:
    clips, _, names = digit_clips(100, 9, "test")
    noisy = clips * 0.7 + 60 + np.random.default_rng(0).normal(0, 6, clips.shape)
    assert directions(np.clip(noisy, 0, 255).astype(np.uint8)) == names


def test_frames_that_show_nothing_are_left_out() -> None:
    clips, _, names = digit_clips(20, 9, "test")
    clips[:, 4] = 0
    assert directions(clips) == names
    assert directions(np.zeros((2, 9, 32, 32, 3), np.uint8)) == ["lost", "lost"]
    assert directions(clips[:3, :1]) == ["lost"] * 3


@pytest.mark.parametrize(("name", "axis"), [("left", 2), ("up", 1)])
def test_names_point_where_a_viewer_sees_them_go(name: str, axis: int) -> None:
    clip = np.zeros((1, 3, 12, 12, 3), np.uint8)
    for t in range(3):
        where = [slice(4, 7), slice(4, 7)]
        where[axis - 1] = slice(6 - 2 * t, 9 - 2 * t)
        clip[0, t, where[0], where[1]] = 255
    assert directions(clip) == [name]
