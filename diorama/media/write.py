"""Arrays -> files for people: PNG, MP4, GIF. A file appears whole or not at all."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from PIL import Image

_ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP


def write_png(path: Path | str, frame: np.ndarray) -> None:
    """One frame, (h, w, 3) or (1, h, w, 3) uint8, without loss."""
    with _aside(path) as aside:
        Image.fromarray(_frames(frame)[0]).save(aside, format="PNG")


def write_gif(path: Path | str, frames: np.ndarray, rate: float, loop: int = 0) -> None:
    """Frames (t, h, w, 3) uint8 at `rate` a second, 256 colours a frame, shown `loop` times (0: for ever).

    GIF counts in hundredths of a second and merges equal neighbours; the whole lasts as long as it should.
    """
    frames = _frames(frames)
    ticks = np.floor(np.arange(len(frames) + 1) * 100 / rate + 0.5)
    images = [Image.fromarray(frame) for frame in frames]
    with _aside(path) as aside:
        images[0].save(
            aside,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=[int(d) * 10 for d in np.diff(ticks)],
            loop=loop,
            disposal=1,
        )


def write_mp4(
    path: Path | str,
    frames: np.ndarray | Iterable[np.ndarray],
    rate: float,
    sound: np.ndarray | None = None,
    sound_rate: int | None = None,
    *,
    lossless: bool = False,
    quality: int = 18,
) -> None:
    """Frames (t, h, w, 3) uint8 at `rate` a second as H.264, and sound (samples, channels) float32 in [-1, 1].

    For viewing: yuv420p and AAC, which every browser plays; `quality` is x264's CRF (lower is better), and an odd
    side is padded by one pixel. `lossless`: RGB samples and float sound come back bit for bit (players: mpv, VLC).
    The same arrays give the same bytes. Pieces of a video, all of one size, are written as they come.
    """
    pieces = iter([frames] if isinstance(frames, np.ndarray) else frames)
    first = _frames(next(pieces, np.empty(0)))
    if sound is not None and sound_rate is None:
        raise ValueError("sound needs its sound_rate")
    muxer = {"fflags": "+bitexact"} | ({} if Path(path).suffix == ".mkv" else {"movflags": "+faststart"})
    with _aside(path) as aside, av.open(str(aside), "w", options=muxer) as target:
        codec, exact_rate = "libx264rgb" if lossless else "libx264", Fraction(rate).limit_denominator(100_000)
        video: Any = target.add_stream(codec, rate=exact_rate)
        context: Any = video.codec_context
        context.thread_count = 2
        if lossless:
            context.options = {"qp": "0", "preset": "veryfast"}
            context.pix_fmt = "rgb24"
        else:
            context.options = {"crf": str(quality), "preset": "medium"}
            context.pix_fmt = "yuv420p"
            context.color_range, context.colorspace = 1, 1  # limited, BT.709
            context.color_primaries, context.color_trc = 1, 1
        odd = [0 if lossless else side % 2 for side in first.shape[1:3]]
        context.height, context.width = (side + more for side, more in zip(first.shape[1:3], odd, strict=True))
        audio = None if sound is None else _add_sound(target, sound, sound_rate, lossless)
        for frame in (frame for piece in chain([first], pieces) for frame in _frames(piece)):
            padded = np.pad(frame, ((0, odd[0]), (0, odd[1]), (0, 0)), "edge")
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
            if not lossless:
                picture = picture.reformat(
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    src_color_range=ColorRange.JPEG,
                    dst_color_range=ColorRange.MPEG,
                    interpolation=_ACCURATE,
                )
            target.mux(video.encode(picture))
        target.mux(video.encode(None))
        if audio is not None and sound is not None:
            _write_sound(target, audio, sound, lossless)


def _add_sound(target: Any, sound: np.ndarray, rate: int | None, lossless: bool) -> Any:
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(sound.shape[1])
    if layout is None:
        raise ValueError(f"{sound.shape[1]} channels of sound have no layout; give 1, 2, 6 or 8")
    stream = target.add_stream("pcm_f32le" if lossless else "aac", rate=rate)
    stream.codec_context.layout = layout
    return stream


def _write_sound(target: Any, stream: Any, sound: np.ndarray, lossless: bool) -> None:
    context = stream.codec_context
    step = context.frame_size or 1024
    for at in range(0, len(sound), step):
        chunk = np.ascontiguousarray(sound[at : at + step], np.float32)
        chunk = chunk.reshape(1, -1) if lossless else np.ascontiguousarray(chunk.T)
        frame = av.AudioFrame.from_ndarray(chunk, format="flt" if lossless else "fltp", layout=context.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = context.sample_rate, at, Fraction(1, context.sample_rate)
        target.mux(stream.encode(frame))
    target.mux(stream.encode(None))


def _frames(frames: np.ndarray) -> np.ndarray:
    frames = frames[None] if frames.ndim == 3 else frames
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(f"frames must be (t, h, w, 3) uint8, not {frames.shape} {frames.dtype}")
    return frames


def _aside(path: Path | str) -> AbstractContextManager[Path]:
    from diorama.core.files import write_aside  # here: core imports JAX, and decoding workers import this package

    return write_aside(path)
