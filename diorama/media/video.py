"""Video files -> arrays, through PyAV (FFmpeg)."""

from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from diorama.media.media import BadMedia, Deadline, Info, Job, Limits, Media, orient, short
from diorama.media.resize import scale

UNCOUNTED = 64  # frames there is room for at first, where a file does not say how many it has
_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def decode(file: BinaryIO, container: str, job: Job) -> Media:
    """The frames that are asked for of an open video file, and the sound meanwhile."""
    try:
        return _decode(file, container, job, seek=job.start > 0)
    except _Late:  # some files send one on too far
        file.seek(0)
        return _decode(file, container, job, seek=False)


class _Late(Exception):
    """After a seek, the first frame lies beyond the one that was looked for, or there is none."""


def _decode(file: BinaryIO, container: str, job: Job, seek: bool) -> Media:
    start = job.start
    with _open(file, container) as source:
        stream = _video(source)
        seconds, declared = _length(source, stream)
        whole = start == 0 and job.count is None
        wanted = declared if whole else min(declared, job.count or declared)
        h, w = stream.codec_context.height, stream.codec_context.width
        job = job.fitting(h, w, wanted)
        job.check(h, w, wanted, seconds if whole else 0)
        reader = _Reader(stream, job, wanted, seek)
        sound = _Sound(source, job.limits)
        if seek:
            source.seek(int(start * av.time_base) + (source.start_time or 0), backward=True)
        _demux(source, reader, sound, job.deadline)
        if seek and not reader.count:
            raise _Late
        if not reader.count:
            raise BadMedia("no frame could be decoded" if whole else f"no frames after {start:g} seconds")
        frames, rate, info = reader.result()
        played = max(reader.count / rate if rate else 0, sound.samples / max(sound.rate, 1))
        if whole and played < 0.7 * seconds - 0.2:  # edit lists and rounding lose a little
            raise BadMedia(f"truncated: {played:.1f} of {seconds:.1f} seconds")
        info = {"format": container} | info | {"size": reader.size}
        if source.duration:
            info["duration"] = source.duration / av.time_base
        last = None if whole else reader.times[-1] + 1 / (rate or 1)
        samples, sound_rate = sound.result(reader.times[0], last, info)
        still = container == "mov" and len(frames) == 1 and not source.duration  # HEIC
        times = np.array(reader.times) - reader.origin
        named = not still and bool(np.all(np.diff(times) > 0))  # in some AVI files no time would name a frame
        return Media(frames, None if still else rate, samples, sound_rate, info, times if named else None)


def probe(file: BinaryIO, container: str) -> Info:
    """What the header says. Rotation lives beside the first frame, so that one frame is decoded."""
    with _open(file, container) as source:
        stream = _video(source)
        _, declared = _length(source, stream)
        frame = next(source.decode(stream))
        w, h = (frame.height, frame.width) if _turn(frame)[0] else (frame.width, frame.height)
        rate = stream.average_rate or stream.guessed_rate
        return Info("video", declared or None, h, w, float(rate) if rate else None, container)


def _open(file: BinaryIO, container: str) -> Any:
    def refuse(*_: object) -> None:
        raise BadMedia("refers to other files")

    return av.open(file, format=container, metadata_errors="replace", io_open=refuse)


def _video(source: Any) -> Any:
    streams = [s for s in source.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise BadMedia("sound only, no picture" if source.streams.audio else "no picture")
    stream = streams[0]
    if stream.codec_context is None:
        raise BadMedia("its codec is not known here")
    if len(streams) > 1 and not source.duration:
        raise BadMedia("a HEIC picture cut into tiles, which is not put together here")
    stream.codec_context.thread_count = 1  # many files at once use the cores better than many threads a file
    return stream


def _length(source: Any, stream: Any) -> tuple[float, int]:
    """Seconds and frames as declared, 0 where unknown; frames estimated from the rate where not counted."""
    seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    seconds = seconds or (source.duration or 0) / av.time_base
    rate = stream.average_rate or Fraction(0)
    return seconds, stream.frames or (int(seconds * rate) if rate <= 240 else 0)


def _demux(source: Any, reader: "_Reader", sound: "_Sound", deadline: Deadline) -> None:
    streams = [reader.stream] + ([sound.stream] if sound.stream else [])
    try:
        for packet in source.demux(streams):
            deadline.check()
            if packet.stream is reader.stream:
                if not reader.done:
                    if packet.is_corrupt:
                        raise BadMedia(f"truncated or damaged after {reader.count} frames")
                    reader.take(packet)
            else:
                sound.take(packet)
            if reader.done and sound.reaches(reader.end):
                return
    except av.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        raise BadMedia(f"damaged video after {reader.count} frames: {short(error)}") from None


class _Reader:
    """Decoded frames, turned upright as they come, in one array that grows."""

    def __init__(self, stream: Any, job: Job, expected: int, seek: bool) -> None:
        self.stream, self.job, self.landing = stream, job, seek
        self.expected, self.most = expected, 0
        self.origin = float((stream.start_time or 0) * (stream.time_base or 0))
        self.decoder = _alpha_decoder(stream)
        self.reformat = VideoReformatter()
        self.frames = np.empty((0, 0, 0, 3), np.uint8)
        self.times: list[float] = []
        self.info: dict[str, Any] = {}
        self.size = 0, 0  # (h, w) of frames, upright, before they are shrunk
        self.done = False

    @property
    def count(self) -> int:
        return len(self.times)

    @property
    def end(self) -> float:
        """When the last frame so far stops being shown, at the latest."""
        gap = self.times[-1] - self.times[-2] if self.count > 1 else 0.0
        return self.times[-1] + max(gap, 1 / float(self.stream.average_rate or 1))

    def take(self, packet: Any) -> None:
        for frame in self.decoder.decode(packet) if self.decoder else packet.decode():
            if self.done:
                return
            time = frame.time if frame.time is not None else (self.times[-1] if self.times else self.origin)
            if self.landing and time - self.origin > self.job.start + 1e-6:
                raise _Late
            self.landing = False
            if time - self.origin < self.job.start - 1e-6:
                continue
            if frame.is_corrupt:
                raise BadMedia(f"damaged video at frame {self.count}")
            if not self.info:
                self.info = self._describe(frame)
            self.job.check(frame.height, frame.width, self.count + 1, time - self.times[0] if self.times else 0)
            kept = scale(self._rgb(frame)[None], *self.job.size(frame.height, frame.width))[0]
            turn = _turn(frame)
            self.size = (frame.width, frame.height) if turn[0] else (frame.height, frame.width)
            self._store(orient(kept, *turn))
            self.times.append(time)
            self.done = self.count == self.job.count

    def _store(self, image: np.ndarray) -> None:
        if self.count == 0:
            limits = self.job.limits
            self.most = min(self.job.count or limits.frames, limits.frames, limits.total_bytes // image.nbytes)
            self.frames = np.empty((self.expected or min(UNCOUNTED, self.most), *image.shape), np.uint8)
        if image.shape != self.frames.shape[1:]:
            h, w = self.frames.shape[1:3]
            raise BadMedia(f"size changes from {w}x{h} to {image.shape[1]}x{image.shape[0]} at frame {self.count}")
        if self.count == len(self.frames):
            room = max(min(3 * self.count // 2, self.most), self.count + 1)
            self.frames.resize((room, *image.shape), refcheck=False)  # moves its pages; no second array is there
        self.frames[self.count] = image

    def _rgb(self, frame: Any) -> np.ndarray:
        matrix = None
        if frame.colorspace == 2 and frame.height > 576:  # unspecified: by custom BT.709 where it is high definition
            matrix = Colorspace.ITU709
        alpha = any(part.is_alpha for part in frame.format.components)
        rgb = self.reformat.reformat(
            frame,
            format="rgba" if alpha else "rgb24",
            src_colorspace=matrix,
            dst_color_range=ColorRange.JPEG,
            interpolation=_EXACT,
            threads=1,
        ).to_ndarray()
        if not alpha:
            return rgb
        share = rgb[..., 3:].astype(np.float32) / 255
        return np.rint(rgb[..., :3] * share + np.array(self.job.background, np.float32) * (1 - share)).astype(np.uint8)

    def _describe(self, frame: Any) -> dict[str, Any]:
        info: dict[str, Any] = {
            "codec": self.stream.codec_context.codec.canonical_name,
            "mode": frame.format.name,
            "bits": max(part.bits for part in frame.format.components),
            "width": frame.width,
            "height": frame.height,
            "had_alpha": any(part.is_alpha for part in frame.format.components),
            "rotation": frame.rotation,
        }
        aspect = self.stream.sample_aspect_ratio
        if aspect and aspect != 1:
            info["pixel_aspect"] = float(aspect)
        if frame.interlaced_frame:
            info["interlaced"] = True
        if frame.color_trc in (16, 18):  # PQ, HLG: high dynamic range, read as if it were ordinary
            info["hdr"] = True
        return info

    def result(self) -> tuple[np.ndarray, float | None, dict[str, Any]]:
        """Frames, frames per second (the declared rate if the times bear it out), and what was seen."""
        stated = self.stream.average_rate or self.stream.guessed_rate
        rate = float(stated) if stated else None
        gaps = np.diff(self.times)
        if len(gaps) and gaps.sum() > 0:
            measured = len(gaps) / float(gaps.sum())
            if rate is None or abs(rate / measured - 1) > 0.05:
                rate = measured
            self.info["variable_rate"] = bool(np.ptp(gaps) > 0.5 / measured)
        frames = self.frames[: self.count]
        return frames if 2 * self.count > len(self.frames) else frames.copy(), rate, self.info


class _Sound:
    """The first sound stream as float32; damage costs the sound, not the frames, and is noted."""

    def __init__(self, source: Any, limits: Limits) -> None:
        streams = [s for s in source.streams.audio if s.codec_context is not None]
        self.stream = streams[0] if streams else None
        self.limits = limits
        self.missing = "its sound codec is not known here" if source.streams.audio and not streams else ""
        self.resampler: Any = None
        self.chunks: list[np.ndarray] = []
        self.rate = 0
        self.first: float | None = None
        self.samples = 0

    def take(self, packet: Any) -> None:
        if self.missing:
            return
        try:
            for frame in packet.decode():
                if self.resampler is None:
                    self.rate, self.first = frame.sample_rate, frame.time
                    self.resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate)
                for part in self.resampler.resample(frame):
                    self.chunks.append(np.ascontiguousarray(part.to_ndarray().T))
                    self.samples += len(self.chunks[-1])
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, MemoryError):
                raise
            self.missing = f"damaged sound: {short(error)}"
        if self.samples > self.limits.seconds * max(self.rate, 1) or self.samples * 8 > self.limits.total_bytes:
            raise BadMedia("its sound is longer than the limits allow")

    def reaches(self, time: float) -> bool:
        """Whether sound up to `time` is here (or none will come)."""
        if self.stream is None or self.missing:
            return True
        return self.first is not None and self.first + self.samples / self.rate >= time

    def result(self, first: float, last: float | None, info: dict[str, Any]) -> tuple[np.ndarray | None, int | None]:
        """Samples from time `first` (silence put before a late start) to `last` or the end."""
        if self.missing:
            info["sound_error"] = self.missing
        if self.missing or not self.chunks:
            return None, None
        sound = np.concatenate(self.chunks).astype(np.float32, copy=False)
        self.chunks.clear()  # ten minutes of stereo are 230 MB, of which no second copy is needed
        late = round(((self.first or 0.0) - first) * self.rate)
        if abs(late) <= 10 * self.rate or last is not None:  # beyond that, the two clocks are unrelated
            sound = sound[max(-late, 0) :]
            if late > 0:
                sound = np.concatenate([np.zeros((late, sound.shape[1]), np.float32), sound])
        if last is not None:
            sound = sound[: round((last - first) * self.rate)]
        return np.clip(np.nan_to_num(sound, copy=False), -1, 1, out=sound), self.rate


def _alpha_decoder(stream: Any) -> Any:
    """The decoder that sees the alpha channel of a WebM, where there is one; FFmpeg's own does not."""
    if stream.metadata.get("alpha_mode") != "1":
        return None
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.codec.canonical_name, "")
    return av.CodecContext.create(name, "r") if name in av.codecs_available else None


def _turn(frame: Any) -> tuple[bool, bool, bool]:
    """(transpose, flip_x, flip_y) of the display matrix: x' = a x + c y, y' = b x + d y."""
    try:
        side = frame.side_data.get(SideData.DISPLAYMATRIX)
    except ValueError:  # newer kinds of side data have no name in PyAV
        turns = {90: (True, False, True), -90: (True, True, False), 180: (False, True, True), -180: (False, True, True)}
        return turns.get(frame.rotation, (False, False, False))
    if side is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(side), np.int32)[:5].astype(float)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, bool(a < 0), bool(d < 0)
    return True, bool(c < 0), bool(b < 0)
