"""Small raw media for the tests of `diorama.data`."""

import json
from pathlib import Path

import numpy as np

from diorama.media import write_mp4, write_png


def picture(seed: int, h: int = 16, w: int = 16) -> np.ndarray:
    """A (h, w, 3) uint8 picture that no other seed gives."""
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def video(seed: int, t: int = 5, h: int = 16, w: int = 16) -> np.ndarray:
    """(t, h, w, 3) uint8 frames."""
    return np.stack([picture(1000 * seed + i, h, w) for i in range(t)])


def media_folder(folder: Path, stills: int = 6, videos: int = 3) -> Path:
    """`stills` pictures and `videos` lossless videos of 5 frames, captioned in metadata.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(stills):
        write_png(folder / f"still{i}.png", picture(i))
        rows.append({"file_name": f"still{i}.png", "text": f"still {i}", "label": i})
    for i in range(videos):
        write_mp4(folder / f"video{i}.mp4", video(i + 1), 8.0, lossless=True)
        rows.append(
            {"file_name": f"video{i}.mp4", "caption": f"video {i}", "actions": [0, 1, 2, 3, 4], "split": "test"}
        )
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
