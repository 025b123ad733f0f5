"""The first step of curation: every item is decoded once, in a guarded process, and what was seen becomes rows.

What an item is, or why it could not be read, goes to the probe's observations by location; what stages measured goes
to theirs by id. Both are written a shard at a time, so a kill costs at most the shard under way; a stage that is new,
or whose parameters changed, looks at the clips it has no row for, and at no others.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from diorama.core.files import hash_bytes
from diorama.core.progress import progress
from diorama.data.ledger import OBSERVATION, append, stage_folder, stage_schema
from diorama.data.sources import Item, fetch
from diorama.data.stages.look import Look, Seen
from diorama.data.stages.stage import Stage
from diorama.data.strip import Claim
from diorama.media import BadMedia, Limits, Reader

SHARD = 512  # items an observation file
GROUP = 64  # items whose bytes are in memory at a time
GONE = "no longer at its source"


@dataclass(frozen=True)
class Work:
    """An item to look at: by which stages, and whether what it is has to be noted as well."""

    item: Item
    stages: tuple[Stage, ...]
    probe: bool = True

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
                for group in batched(alike, GROUP):
                    stored = [_fetched(w.item) for w in group]
                    seen = reader.map((s for s in stored if not isinstance(s, BadMedia)), apply=Look(stages, claim))
                    for w, data in zip(group, stored, strict=True):
                        found = data if isinstance(data, BadMedia) else next(seen)
                        row = _note(w.item, data, found)
                        if w.probe:
                            probed.append(row | {"run": run})
                        for stage in stages:
                            values: Mapping[str, Any] = found.rows[stage.name] if isinstance(found, Seen) else {}
                            if row.get("id") and not row.get("error"):
                                measured.setdefault(stage, []).append({"id": row["id"], **values})
                        bar.advance()
            name = hash_bytes("".join(w.item.location + w.item.stamp for w in shard).encode())
            for stage, rows in measured.items():
                append(stage_folder(catalogue, stage), name, rows, stage_schema(stage))
            if probed:  # last: an item is done when its row is here
                append(probe, name, probed, OBSERVATION)


def _fetched(item: Item) -> Path | bytes | BadMedia:
    try:
        return BadMedia(GONE) if item.stamp == GONE else fetch(item.location)
    except BadMedia as bad:
        return bad


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


def batched(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` values, the last one shorter."""
    values = list(values)
    return (values[i : i + size] for i in range(0, len(values), size))
