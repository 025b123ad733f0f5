"""What is written reads back as it should, whole or not at all."""

import numpy as np
import pytest

from diorama.media import contact_sheet, grid, read, write_gif, write_mp4, write_png

FRAMES = np.random.default_rng(1).integers(0, 256, (9, 17, 31, 3), np.uint8)


def smooth(t: int, h: int, w: int) -> np.ndarray:
    y, x = np.mgrid[:h, :w]
    frames = [np.stack([255 * x / w, 255 * y / h, 0 * x + 20 * i], -1) for i in range(t)]
    return np.array(frames).astype(np.uint8)


def test_png_is_exact(tmp_path):
    write_png(tmp_path / "deep" / "a.png", FRAMES[0])
    np.testing.assert_array_equal(read(tmp_path / "deep" / "a.png").frames, FRAMES[:1])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("rate", [8, 12.5, 30000 / 1001])
def test_lossless_video_is_exact_and_reproducible(tmp_path, suffix, rate):
    one, other = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_mp4(one, FRAMES, rate, lossless=True)
    write_mp4(other, iter([FRAMES[:1], FRAMES[1:]]), rate, lossless=True)  # in pieces
    assert one.read_bytes() == other.read_bytes()
    media = read(one)
    np.testing.assert_array_equal(media.frames, FRAMES)
    assert media.rate == pytest.approx(rate, rel=1e-4)


def test_video_for_viewing_keeps_colours_and_pads_odd_sides(tmp_path):
    frames = smooth(5, 49, 65)
    write_mp4(tmp_path / "a.mp4", frames, 8)
    media = read(tmp_path / "a.mp4")
    assert media.frames.shape == (5, 50, 66, 3)
    assert media.info["mode"] == "yuv420p"
    assert np.abs(media.frames[:, :49, :65].astype(int) - frames).mean() < 3
    for colour in [(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)]:
        flat = np.full((2, 32, 32, 3), colour, np.uint8)
        write_mp4(tmp_path / "flat.mp4", flat, 8, quality=5)
        np.testing.assert_allclose(read(tmp_path / "flat.mp4").frames[0, 16, 16].astype(int), colour, atol=4)


def test_gif(tmp_path):
    frames = smooth(8, 20, 30)
    write_gif(tmp_path / "a.gif", frames, 8)
    media = read(tmp_path / "a.gif")
    assert media.frames.shape == frames.shape
    assert media.rate == pytest.approx(8, rel=0.01)
    assert np.abs(media.frames.astype(int) - frames).mean() < 8


def test_nothing_half_written(tmp_path):
    with pytest.raises(ValueError, match="uint8"):
        write_png(tmp_path / "a.png", FRAMES[0].astype(np.float32))
    with pytest.raises(ValueError, match="sound_rate"):
        write_mp4(tmp_path / "a.mp4", FRAMES, 8, np.zeros((10, 1), np.float32))
    with pytest.raises(ValueError, match="channels"):
        write_mp4(tmp_path / "a.mp4", FRAMES, 8, np.zeros((10, 3), np.float32), 44100)
    assert list(tmp_path.iterdir()) == []


def test_contact_sheet(tmp_path):
    clips = [np.full((3, 10, 12, 3), 40 * i, np.uint8) for i in range(5)]
    sheet = contact_sheet(clips, tmp_path / "sheet.png", columns=3)
    assert sheet.shape == (2 * 14 + 4, 3 * 16 + 4, 3)
    np.testing.assert_array_equal(read(tmp_path / "sheet.png").frames[0], sheet)
    assert sheet[8, 8 + 16].tolist() == [40, 40, 40]
    captioned = contact_sheet(clips, columns=3, captions=[f"clip {i}" for i in range(5)], frames=3)
    assert captioned.shape[1] == 3 * (36 + 4) + 4
    assert captioned[18:32].min() < 100  # letters
    with pytest.raises(ValueError, match="captions"):
        contact_sheet(clips, captions=["one"])


def test_long_captions_are_wrapped():
    still = np.full((1, 96, 96, 3), 255, np.uint8)
    words = "a seven moving left"
    sheet = contact_sheet([still], captions=[words])
    assert sheet.shape[0] == 96 + 2 * 16 + 8
    assert sheet[4 + 96 + 16 :].min() < 100  # "left" stands below
    assert contact_sheet([still], captions=[9 * words]).shape[0] == 96 + 3 * 16 + 8


def test_grid_holds_the_last_frame_of_short_clips():
    long = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 6, 6, 3), np.uint8)
    out = grid([long, long[:2]], columns=2)
    assert out.shape[0] == 4
    assert out[:, 6, 6, 0].tolist() == [0, 1, 2, 3]
    assert out[:, 6, 16, 0].tolist() == [0, 1, 1, 1]
