"""Frames through the codecs of the world and back: what comes out, and how many bits it took."""

from fractions import Fraction
from io import BytesIO
from typing import Literal

import av
import numpy as np
from PIL import Image

Stills = Literal["JPEG", "WEBP", "AVIF"]
Videos = Literal["libx264", "libx265"]
CELL = 16  # pixels: tiles of a mosaic begin at whole blocks of every codec
LEAST = 64  # pixels a side of a video: x265 writes past its memory where one is smaller than its largest block
DECODERS = {"libx264": "h264", "libx265": "hevc"}
OPTIONS = {
    # nothing but what is asked for: no frame is guessed to be a cut, and none of the encoder's own words are counted
    "libx264": {"forced-idr": "1", "x264-params": "scenecut=0:keyint=infinite:log=-1"},
    "libx265": {"forced-idr": "1", "x265-params": "scenecut=0:keyint=-1:log-level=none:info=0"},
}


def recode_stills(stills: np.ndarray, form: Stills, quality: int) -> tuple[np.ndarray, int]:
    """Stills (n, h, w, 3) uint8 as one file decodes them, and their share of the file's bits.

    They lie side by side in one picture, so that its header counts once and not for every small still; tiles begin at
    whole blocks, and the last still is repeated until they fill the picture. `quality` is Pillow's, 0 to 100.
    """
    n, h, w, _ = stills.shape
    padded = np.pad(stills, ((0, 0), (0, -h % CELL), (0, -w % CELL), (0, 0)), mode="edge")
    across = int(np.ceil(np.sqrt(n * padded.shape[1] / padded.shape[2])))
    down = -(-n // across)
    tiles = np.concatenate([padded, np.repeat(padded[-1:], across * down - n, axis=0)])
    rows = tiles.reshape(down, across, *padded.shape[1:]).transpose(0, 2, 1, 3, 4)
    file = BytesIO()
    more = {"optimize": True} if form == "JPEG" else {"method": 6} if form == "WEBP" else {}
    Image.fromarray(rows.reshape(down * padded.shape[1], across * padded.shape[2], 3)).save(
        file, form, quality=quality, **more
    )
    again = np.asarray(Image.open(file).convert("RGB")).reshape(rows.shape).transpose(0, 2, 1, 3, 4)
    return again.reshape(tiles.shape)[:n, :h, :w], round(8 * file.tell() * n / (across * down))


def recode_videos(clips: np.ndarray, form: Videos, quality: int, rate: float = 24.0) -> tuple[np.ndarray, int]:
    """Clips (n, t, h, w, 3) uint8 as one stream decodes them, and the stream's bits.

    Every clip begins with a key frame, and so depends on no other. `quality` is the encoder's constant rate factor,
    0 (best) to 51. Colours are coded at half resolution, as usual; small frames are filled up to 64 pixels a
    side by their edges.
    """
    n, t, h, w, _ = clips.shape
    frames = clips.reshape(n * t, h, w, 3)
    frames = np.pad(frames, ((0, 0), *((0, max(LEAST - side, side % 2)) for side in (h, w)), (0, 0)), mode="edge")
    encoder = av.CodecContext.create(form, "w")
    encoder.width, encoder.height, encoder.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"  # type: ignore[attr-defined]
    encoder.time_base = 1 / Fraction(rate).limit_denominator(1001)
    encoder.options = {"crf": str(quality), "preset": "medium", **OPTIONS[form]}
    packets = []
    for number, pixels in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts = number
        if number % t == 0:
            frame.pict_type = av.video.frame.PictureType.I
        packets += encoder.encode(frame)  # type: ignore[attr-defined]
    packets += encoder.encode(None)  # type: ignore[attr-defined]
    decoder = av.CodecContext.create(DECODERS[form], "r")
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]  # type: ignore[attr-defined]
    again = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])[:, :h, :w]
    return again.reshape(clips.shape), 8 * sum(packet.size for packet in packets)
