"""The first step of curation: every item is decoded once, in a guarded process, and what was seen becomes rows.

What an item is, or why it could not be read, goes to the probe's observations by location; what stages measured goes
to theirs by id. Both are written a shard at a time, so a kill costs at most the shard under way; a stage that is new,
or whose parameters changed, looks at the clips it has no row for, and at no others.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from diorama.core.files import hash_bytes
from diorama.core.progress import progress
from diorama.data.ledger import OBSERVATION, append, batched, fitting, stage_folder, stage_schema
from diorama.data.sources import Item, fetch
from diorama.data.stages.look import Look, Seen
from diorama.data.stages.stage import Stage
from diorama.data.strip import Claim
from diorama.media import BadMedia, Limits, Reader

SHARD = 512  # items an observation file
GROUP, GROUP_BYTES = 64, 256 << 20  # items whose bytes are in memory at a time
GONE = "no longer at its source"


@dataclass(frozen=True)
class Work:
    """An item to look at, and by which stages. `id` is that of a clip whose probe is done; else it is probed too."""

    item: Item
    stages: tuple[Stage, ...]
    id: str | None = None

    @property
    def claim(self) -> Claim:
        """What is said of its being a strip."""
        more = json.loads(self.item.said.get("more", "{}"))
        frames, width = more.get("frames"), more.get("width")
        hint = (frames, width) if isinstance(frames, int) and isinstance(width, int) else None
        return Claim(self.item.said.get("frame_width"), hint)


def observe(work: Sequence[Work], catalogue: Path, probe: Path, run: int, limits: Limits, workers: int) -> None:
    """Look at every item in guarded processes; write what was seen, a shard at a time."""
    if not work:
        return
    with progress(len(work), "curating", "clips") as bar, Reader(workers, limits) as reader:
        for shard in batched(work, SHARD):
            probed: list[dict[str, Any]] = []
            measured: dict[Stage, list[dict[str, Any]]] = {}
            for (stages, claim), alike in groupby(shard, key=lambda w: (w.stages, w.claim)):
                for group in _fetched(alike):
                    seen = reader.map((d for _, d in group if not isinstance(d, BadMedia)), apply=Look(stages, claim))
                    for w, data in group:
                        found = data if isinstance(data, BadMedia) else next(seen)
                        row = _note(w.item, data, found)
                        if w.id is None:
                            probed.append(row | {"run": run})
                        for stage in stages:
                            if isinstance(found, Seen) and not row.get("error"):
                                measured.setdefault(stage, []).append({"id": row["id"], **found.rows[stage.name]})
                            elif w.id:  # known to be sound: it is the stage that fails, and would each time
                                measured.setdefault(stage, []).append({"id": w.id, "error": row["error"]})
                        bar.advance()
            name = hash_bytes("".join(w.item.location + w.item.stamp for w in shard).encode())
            for stage, rows in measured.items():
                append(stage_folder(catalogue, stage), name, fitting(rows, stage_schema(stage)), stage_schema(stage))
            if probed:  # last: an item is done when its row is here
                append(probe, name, probed, OBSERVATION)


def _fetched(work: Iterable[Work]) -> Iterator[list[tuple[Work, Path | bytes | BadMedia]]]:
    """Items with their encoded media, few enough at a time to fit into memory."""
    group: list[tuple[Work, Path | bytes | BadMedia]] = []
    size = 0
    for w in work:
        data: Path | bytes | BadMedia
        try:
            data = BadMedia(GONE) if w.item.stamp == GONE else fetch(w.item.location)
        except BadMedia as bad:
            data = bad
        group.append((w, data))
        size += len(data) if isinstance(data, bytes) else 0
        if len(group) == GROUP or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _note(item: Item, data: Path | bytes | BadMedia, seen: Seen | BadMedia) -> dict[str, Any]:
    """An item's observation."""
    row = {"location": item.location, "root": item.root, "stamp": item.stamp} | item.said
    if isinstance(data, BadMedia):
        return row | {"error": data.reason}
    if isinstance(seen, BadMedia):
        return row | {"error": seen.reason}
    if len(item.said.get("actions", range(seen.t))) != seen.t:
        return row | {"error": f"{len(item.said['actions'])} actions were given for {seen.t} frames"}
    return row | {
        "id": identity(data, seen.frame_width), "pixels": seen.pixels,
        "kind": "video" if seen.t > 1 else "image", "t": seen.t, "h": seen.h, "w": seen.w,
        "rate": seen.rate or item.said.get("rate") if seen.t > 1 else None, "frame_width": seen.frame_width,
        "sound": seen.sound, "bytes": data.stat().st_size if isinstance(data, Path) else len(data),
        "format": seen.format,
    }  # fmt: skip


def identity(data: Path | bytes, frame_width: int | None = None) -> str:
    """A clip's id: the hash of its stored bytes (and of how a strip is cut)."""
    with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    if frame_width:
        digest.update(f"strip {frame_width}".encode())
    return digest.hexdigest()
