"""Videos against frames and sound known exactly."""

from fractions import Fraction

import av
import numpy as np
import pytest

from diorama.media import BadMedia, Limits, Part, Reader, probe, read, write_mp4

RNG = np.random.default_rng(0)
FRAMES = RNG.integers(0, 256, (12, 32, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    write_mp4(path, FRAMES, 8, lossless=True)
    return path


def test_frames_rate_and_header(clip):
    media = read(clip)
    np.testing.assert_array_equal(media.frames, FRAMES)
    assert media.rate == 8
    assert media.sound is None
    assert media.info["codec"] == "h264"
    assert media.info["duration"] == pytest.approx(1.5)
    info = probe(clip)
    assert (info.kind, info.t, info.h, info.w, info.rate, info.format) == ("video", 12, 32, 48, 8, "mov")
    np.testing.assert_array_equal(read(clip.read_bytes()).frames, FRAMES)


def test_part_of_a_video(clip):
    np.testing.assert_array_equal(read(clip, count=3).frames, FRAMES[:3])
    np.testing.assert_array_equal(read(clip, start=0.5, count=5).frames, FRAMES[4:9])
    np.testing.assert_array_equal(read(clip, start=1.25).frames, FRAMES[10:])
    with pytest.raises(BadMedia, match="no frames after"):
        read(clip, start=60)


@pytest.mark.parametrize(
    ("degrees", "flip", "upright"),
    [
        (0, False, FRAMES),
        (90, False, np.rot90(FRAMES, 1, (1, 2))),  # counterclockwise
        (-90, False, np.rot90(FRAMES, -1, (1, 2))),
        (180, False, FRAMES[:, ::-1, ::-1]),
        (0, True, FRAMES[:, :, ::-1]),
    ],
)
def test_display_matrix_is_applied(tmp_path, degrees, flip, upright):
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264rgb", rate=8, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "rgb24"
        stream.set_display_rotation(degrees, hflip=flip)
        for frame in FRAMES:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        target.mux(stream.encode(None))
    media = read(path)
    np.testing.assert_array_equal(media.frames, upright)
    assert (media.info["width"], media.info["height"]) == (48, 32)
    info = probe(path)
    assert (info.h, info.w) == upright.shape[1:3]


def test_pixel_shape_is_noted(tmp_path):
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264rgb", rate=8, options={"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "rgb24"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        for frame in FRAMES:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        target.mux(stream.encode(None))
    media = read(path)
    np.testing.assert_array_equal(media.frames, FRAMES)
    assert media.info["pixel_aspect"] == pytest.approx(16 / 11)


def test_transparency_of_video_is_composited(tmp_path):
    path = tmp_path / "clear.mov"
    rgba = np.full((16, 16, 4), [200, 0, 0, 128], np.uint8)
    rgba[:8, :, 3] = 0
    with av.open(str(path), "w") as target:
        stream = target.add_stream("png", rate=8)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "rgba"
        target.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")))
        target.mux(stream.encode(None))
    media = read(path, background=(0, 0, 100))
    assert media.info["had_alpha"]
    assert media.frames[0, 0, 0].tolist() == [0, 0, 100]
    assert media.frames[0, 15, 0].tolist() == [100, 0, 50]


@pytest.mark.parametrize("channels", [1, 2])
def test_sound_is_kept_bit_for_bit_in_lossless_files(tmp_path, channels):
    sound = RNG.uniform(-1, 1, (66150, channels)).astype(np.float32)
    write_mp4(tmp_path / "loud.mp4", FRAMES, 8, sound, 44100, lossless=True)
    media = read(tmp_path / "loud.mp4")
    np.testing.assert_array_equal(media.frames, FRAMES)
    np.testing.assert_array_equal(media.sound, sound)
    assert media.sound_rate == 44100
    part = read(tmp_path / "loud.mp4", start=0.5, count=4)
    np.testing.assert_array_equal(part.frames, FRAMES[4:8])
    np.testing.assert_array_equal(part.sound, sound[22050:44100])


def test_sound_survives_compression(tmp_path):
    time = np.arange(66150) / 44100
    sound = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[:, None]
    write_mp4(tmp_path / "tone.mp4", FRAMES, 8, sound, 44100)
    media = read(tmp_path / "tone.mp4")
    assert media.sound.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(media.sound[:44100, 0]))
    assert spectrum.argmax() == 440
    assert np.corrcoef(media.sound[2000:60000, 0], sound[2000:60000, 0])[0, 1] > 0.99  # also: in time with the frames


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_truncated_videos_are_errors(tmp_path, suffix):
    path = tmp_path / f"long{suffix}"
    write_mp4(path, RNG.integers(0, 256, (48, 32, 48, 3), np.uint8), 8, lossless=True)
    data = path.read_bytes()
    assert len(read(data).frames) == 48
    for share in (0.01, 0.3, 0.6):
        with pytest.raises(BadMedia):
            read(data[: int(len(data) * share)])


def test_limits_hold_before_decoding(clip):
    with pytest.raises(BadMedia, match=r"48x32 is more than 0\.001 million pixels"):
        read(clip, Limits(pixels=1000))
    with pytest.raises(BadMedia, match="12 frames are more than 5"):
        read(clip, Limits(frames=5))
    with pytest.raises(BadMedia, match="2 seconds are more than 1"):
        read(clip, Limits(seconds=1))
    with pytest.raises(BadMedia, match="MB"):
        read(clip, Limits(total_bytes=30_000))
    assert len(read(clip, Limits(frames=5), count=5).frames) == 5
    with pytest.raises(BadMedia, match="longer than 0 seconds"):
        read(clip, Limits(timeout=0))


def test_limits_hold_where_the_header_says_nothing(tmp_path):
    path = tmp_path / "stream.ts"
    with av.open(str(path), "w", format="mpegts") as target:
        stream = target.add_stream("mpeg2video", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for frame in FRAMES:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        target.mux(stream.encode(None))
    assert len(read(path).frames) == 12
    with pytest.raises(BadMedia, match="frames"):
        read(path, Limits(frames=5))


def test_sound_alone_is_not_a_picture(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    with pytest.raises(BadMedia, match="sound only"):
        read(path)


@pytest.mark.parametrize("times", [range(30), [0, 1, 2, 5, 6, 9, 10, 11, 13, 14, 20, 21, 22, 23, 30, 31, 32, 40]])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_any_part_is_exactly_those_frames(tmp_path, suffix, times):
    path = tmp_path / f"clip.{suffix}"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=25, options={"bf": "3", "g": "7", "preset": "medium"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for k, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(FRAMES[k % 12])
            frame.pts, frame.time_base = time, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    whole = read(path)
    assert len(whole.frames) == len(times)
    np.testing.assert_allclose(whole.times, np.array(times) / 25, atol=2e-3)
    for start in range(len(times)):
        part = read(Part(path, whole.times[start], 4))
        np.testing.assert_array_equal(part.frames, whole.frames[start : start + 4])
        np.testing.assert_array_equal(part.times, whole.times[start : start + 4])


def test_a_video_that_would_not_fit_is_shrunk(clip):
    media = read(clip, fit=12 * 16 * 24 * 3)
    assert media.frames.shape == (12, 16, 24, 3)
    assert media.info["size"] == (32, 48)
    np.testing.assert_array_equal(read(clip, fit=12 * 32 * 48 * 3).frames, FRAMES)
    assert read(clip, limits=Limits(total_bytes=12 * 16 * 24 * 3), fit=12 * 16 * 24 * 3).frames.shape[1] == 16


def test_a_video_that_does_not_say_how_long_it_is_takes_no_more_memory_than_its_frames(tmp_path):
    path = tmp_path / "live.mkv"
    large = FRAMES[np.arange(100) % 12].repeat(8, axis=1).repeat(8, axis=2)
    with av.open(str(path), "w", options={"live": "1"}) as target:
        stream = target.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 256, 384, "bgr0"
        for frame in large:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(frame).reformat(format="bgr0")))
        target.mux(stream.encode(None))
    with av.open(str(path)) as source:
        assert (source.duration, source.streams.video[0].frames) == (None, 0)
    frames = read(path).frames
    np.testing.assert_array_equal(frames, large)
    with Reader(1, memory=500_000_000) as reader:  # where room for all that `Limits` allow would be 1 GB
        np.testing.assert_array_equal(reader.read(path).frames, frames)
