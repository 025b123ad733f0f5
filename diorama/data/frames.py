"""Decoded frames of a catalogue's clips, at the size that training asks for."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from diorama.core.errors import UserError
from diorama.data.strip import cut
from diorama.media import BadMedia, Limits, Source, center_crop, read, resize

ENOUGH = 4  # times the size asked for, to which larger frames are shrunk while they are decoded
VETTED = Limits(frames=1 << 30, seconds=float("inf"), total_bytes=8 << 30, timeout=600.0)  # curation had its own limits


class Frames:
    """Clips as frames, kept in memory up to `cache_bytes`, for all sources of one catalogue.

    `media(clips)` gives encoded media, as `Catalogue.media`. Safe to use from threads.
    """

    def __init__(self, media: Callable[[Sequence[Mapping[str, Any]]], list[Source]], cache_bytes: int):
        self._media, self.room = media, cache_bytes
        self._held: dict[tuple[int, int, int, bool], np.ndarray] = {}
        self._lock = threading.Lock()

    def __call__(self, clip: dict[str, Any], height: int, width: int, crop: bool = True) -> np.ndarray:
        """All frames of a row of `Catalogue.clips`, scaled to cover `height` x `width` and, with `crop`, cut to it.

        uint8 (t, h, w, 3), read-only. Raises `UserError` when a file that was readable is so no longer.
        """
        key = (clip["address"], height, width, crop)
        frames = self._held.get(key)
        if frames is None:
            frames = self._decode(clip, height, width, crop)
            with self._lock:
                if frames.nbytes <= self.room and key not in self._held:
                    self._held[key] = frames
                    self.room -= frames.nbytes
        return frames

    def _decode(self, clip: dict[str, Any], height: int, width: int, crop: bool) -> np.ndarray:
        try:
            [source] = self._media([clip])
            side = None if clip["frame_width"] else ENOUGH * max(height, width)  # a strip is cut at its own size
            frames = read(source, VETTED, short_side=side).frames
        except BadMedia as bad:
            where = clip["location"]
            raise UserError(f"{where} could be read when it was curated and cannot now ({bad}): curate again") from None
        frames = cut(frames, clip["frame_width"]) if clip["frame_width"] else frames
        frames = resize(frames, height, width)
        frames = np.ascontiguousarray(center_crop(frames, height, width) if crop else frames)
        frames.flags.writeable = False  # examples share them
        return frames
