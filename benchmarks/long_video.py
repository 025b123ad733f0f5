"""Memory of coding long videos chunk by chunk: videos of 256 x 144, 25 frames a second, there and back.

Install:   python -m pip install -e .
Command:   python -m benchmarks.long_video DATA [--codec RUN]          (DATA holds video/panda70m/*.mp4, coded one after
           another as one video; without it the frames are noise)
Hardware:  two CPU cores, about 5 minutes. The peak of resident memory, each length in a process of its own.

The codec has 8 x 8 pixels and 4 frames a cell, 6 channels and random weights, of which neither memory nor time depend,
or it is a run's. The videos are read as they are coded, and what was decoded is let go. On the first 33 frames, what
was coded in chunks is compared with what is coded whole, and the first frame with the picture alone.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import jax
import numpy as np

from diorama.codec import Codec, ConvCodecConfig, Patch, decode, decode_chunks, encode, encode_chunks
from diorama.core.memory import keep_memory
from diorama.media import read, scale
from diorama.run import Folder

HEIGHT, WIDTH, RATE, PIECE, WHOLE = 144, 256, 25, 16, 33
LENGTHS = (2, 10, 30, 60)  # seconds


def made() -> Codec:
    """A codec whose every weight is random."""
    config = ConvCodecConfig(spatial=8, temporal=4, channels=6, front=Patch(4), widths=(96, 96))
    model = config.init(jax.random.key(0))
    leaves, structure = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    shaken = [x + 0.03 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return Codec.blank(jax.tree.unflatten(structure, shaken), config)


def pieces(data: Path | None, frames: int) -> Iterator[np.ndarray]:
    """`frames` frames in pieces, `(1, t, h, w, 3)` in [-1, 1]."""
    files = sorted((data / "video" / "panda70m").glob("*.mp4")) if data else []
    rng = np.random.default_rng(0)
    noise = (rng.integers(0, 256, (PIECE, HEIGHT, WIDTH, 3), np.uint8) for _ in iter(int, 1))
    clips = (scale(read(file).frames, HEIGHT, WIDTH) for file in cycle(files)) if files else noise
    for clip in clips:
        for start in range(0, len(clip), PIECE):
            part = clip[start : start + PIECE][:frames]
            frames -= len(part)
            yield part[None] / np.float32(127.5) - 1
            if not frames:
                return


def code(codec: Codec, data: Path | None, seconds: int) -> dict[str, float]:
    """There and back, in this process."""
    began, frames = time.perf_counter(), 0
    for media in decode_chunks(codec, encode_chunks(codec, pieces(data, seconds * RATE), size=4)):
        frames += media.shape[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"frames": frames, "seconds": time.perf_counter() - began, "peak_mb": peak}


def same(codec: Codec, data: Path | None) -> tuple[float, float, float]:
    """Largest differences of latents and of media, chunks to whole, and of the first latent frame to the picture's."""
    media = np.concatenate(list(pieces(data, WHOLE)), axis=1)
    whole = np.asarray(encode(codec, media))
    parts = [np.asarray(z) for z in encode_chunks(codec, [media], size=4)]
    again = np.concatenate([np.asarray(x) for x in decode_chunks(codec, parts)], axis=1)
    first = np.asarray(encode(codec, media[:, :1]))
    return (
        float(np.abs(np.concatenate(parts, axis=1) - whole).max()),
        float(np.abs(again - np.asarray(decode(codec, whole))).max()),
        float(np.abs(first - whole[:, :1]).max()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--codec", type=Path, help="a run with a trained codec")
    parser.add_argument("--seconds", type=int, help="one length, in this process")
    options = parser.parse_args()
    keep_memory()
    codec = Folder.open(options.codec).codec() if options.codec else made()
    if not isinstance(codec, Codec):
        raise SystemExit(f"{options.codec} has no codec that codes in chunks")
    if options.seconds:
        print(json.dumps(code(codec, options.data, options.seconds)))
        return
    latents, media, first = same(codec, options.data)
    print(f"chunks and whole differ by {latents:.1e} (latents), {media:.1e} (media); first frame alone: {first:.1e}")
    rows = []
    for seconds in LENGTHS:
        command = [sys.executable, "-m", "benchmarks.long_video", *sys.argv[1:], "--seconds", str(seconds)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        row = rows[-1]
        what = f"{row['frames']:5.0f} frames: {row['seconds']:6.1f} s"
        print(f"{seconds:4} s, {what}, peak {row['peak_mb']:6.0f} MB", flush=True)
    print(json.dumps({"differences": [latents, media, first], "lengths": dict(zip(LENGTHS, rows, strict=True))}))


if __name__ == "__main__":
    main()
