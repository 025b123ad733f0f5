"""Curation: from sources to a catalogue of clips to train on, with a reason for everything left out.

Three steps, each safe to kill and each doing only what is not yet done:

1. observe: every item is decoded once, in a guarded process; what was seen, or why it could not be read, is a row of
   an observation shard. An item is done when a shard that holds its stamp exists.
2. decide: rules over the observations say keep or drop. Verdicts that changed are appended to the ledger.
3. store: the clips kept, with their bytes or a reference, are brought into `clips.lance`; last, `catalogue.json` names
   the version that is complete, so a reader never sees a half-finished one.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes, write_text
from diorama.core.progress import progress
from diorama.data.catalogue import Catalogue, Summary, manifest_hash
from diorama.data.ledger import CLIP, DECISION, LATEST, NARROW, OBSERVATION, append, as_json, connect, probe_folder
from diorama.data.look import Seen, look
from diorama.data.sources import Item, fetch, listing
from diorama.data.strip import strip_shape
from diorama.media import BadMedia, Limits, Reader

SHARD = 512  # items an observation file
GROUP = 64  # items whose bytes are in memory at a time
STORE = 4096  # clips a Lance fragment, at most
STORE_BYTES = 128 << 20
GONE = "no longer at its source"


def curate(
    sources: Sequence[Path | str],
    out: Path | str,
    *,
    inline_bytes: int = 2 << 20,
    test_share: float = 0.1,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    workers: int | None = None,
) -> Summary:
    """Bring every clip of `sources` into the catalogue folder `out`; what is done already is not done again.

    A source is a folder (walked; sidecars `*.jsonl`, `*.json`, `*.csv` and `NAME.txt` say things about its files), a
    Parquet file with a column of encoded media, an IDX or an NPZ file. Files of at most `inline_bytes` are kept inside
    the catalogue, larger ones stay where they are and are referred to. A clip without a split follows one given to its
    group; the others are divided by a hash of their group or id, `test_share` of them for testing. Sources add up over
    calls; a file that has gone from its source is dropped. Raises `UserError` for a source that is missing or a
    malformed sidecar; a file that cannot be read is a decision with its reason, never an error.
    """
    out = Path(os.path.abspath(out))
    items: dict[str, Item] = {}
    for source in sources:
        for item in listing(Path(source), skip=out):
            items.setdefault(item.location, item)
    if not items:
        raise UserError(f"nothing to curate: {', '.join(map(str, sources))} holds no files")
    probe = probe_folder(out, limits)
    tables = {"observations": (probe, OBSERVATION), "decisions": (out / "decisions", DECISION)}
    seen, run = _seen(tables)
    roots = {os.path.abspath(source) for source in sources}
    new = [item for item in items.values() if seen.get(item.location, ("", ""))[0] != item.stamp]
    gone = [Item(location, root, GONE) for location, (stamp, root) in sorted(seen.items())
            if root in roots and location not in items and stamp != GONE]  # fmt: skip
    _observe([*new, *gone], probe, run, limits, workers or os.cpu_count() or 1)
    kept = _decide(tables, out, run, test_share)
    _store(kept, out, probe, inline_bytes)
    return Catalogue(out).summary(new=len(new))


# ---- 1. observe ----


def _seen(tables: dict[str, tuple[Path, pa.Schema]]) -> tuple[dict[str, tuple[str, str]], int]:
    """{location: (stamp, root)} of what was observed before, and this run's number."""
    con = connect(tables)
    con.execute(LATEST.format(view="latest", table="observations"))
    rows = con.execute("select location, stamp, root from latest").fetchall()
    run = con.execute(
        "select coalesce(max(run), 0) + 1 from (select run from observations union all select run from decisions)"
    ).fetchone()
    return {location: (stamp, root) for location, stamp, root in rows}, run[0] if run else 1


def _observe(items: Sequence[Item], folder: Path, run: int, limits: Limits, workers: int) -> None:
    """Look at every item in guarded processes; write what was seen, a shard at a time."""
    if not items:
        return
    with progress(len(items), "curating", "clips") as bar, Reader(workers, limits) as reader:
        for shard in _batched(items, SHARD):
            rows = []
            for group in _batched(shard, GROUP):
                stored = [_fetched(item) for item in group]
                seen = reader.map((s for s in stored if not isinstance(s, BadMedia)), apply=look)
                for item, data in zip(group, stored, strict=True):
                    row = {"location": item.location, "root": item.root, "stamp": item.stamp, "run": run} | item.said
                    try:
                        rows.append(row | _note(item.said, data, data if isinstance(data, BadMedia) else next(seen)))
                    except BadMedia as bad:
                        rows.append(row | {"error": bad.reason})
                    bar.advance()
            append(folder, hash_bytes("".join(i.location + i.stamp for i in shard).encode()), rows, OBSERVATION)


def _fetched(item: Item) -> Path | bytes | BadMedia:
    try:
        return BadMedia(GONE) if item.stamp == GONE else fetch(item.location)
    except BadMedia as bad:
        return bad


def _note(said: dict[str, Any], data: Path | bytes | BadMedia, seen: Seen | BadMedia) -> dict[str, Any]:
    """An item's observation. Raises `BadMedia`."""
    if isinstance(data, BadMedia):
        raise data
    if isinstance(seen, BadMedia):
        raise seen
    width = said.get("frame_width") or _told_width(said, seen)
    t, w = strip_shape(seen.t, seen.w, width) if width else (seen.t, seen.w)
    if len(said.get("actions", range(t))) != t:
        raise BadMedia(f"{len(said['actions'])} actions were given for {t} frames")
    return {
        "id": identity(data, width), "pixels": f"{seen.pixels} {width}" if width else seen.pixels,
        "kind": "video" if t > 1 else "image", "t": t, "h": seen.h, "w": w,
        "rate": seen.rate or said.get("rate") if t > 1 else None, "frame_width": width, "sound": seen.sound,
        "bytes": data.stat().st_size if isinstance(data, Path) else len(data), "format": seen.format,
    }  # fmt: skip


def _told_width(said: dict[str, Any], seen: Seen) -> int | None:
    """The frame width of a still that its sidecar calls `frames` pictures of `width` pixels: a strip."""
    more = json.loads(said.get("more", "{}"))
    count, width = more.get("frames"), more.get("width")
    told = isinstance(count, int) and isinstance(width, int) and count > 1
    return width if told and seen.t == 1 and seen.w == count * width else None


def identity(data: Path | bytes, frame_width: int | None = None) -> str:
    """A clip's id: the hash of its stored bytes (and of how a strip is cut)."""
    with data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    if frame_width:
        digest.update(f"strip {frame_width}".encode())
    return digest.hexdigest()


# ---- 2. decide ----

# One clip of each content is kept: a test clip before a training clip (so that none leaks), a captioned one first, one
# whose source is still there before one of a source that was moved or deleted.
_DECIDE = """
create view ranked as select *,
  row_number() over bytes as copy, first_value(location) over bytes as original
  from latest where error is null
  window bytes as (partition by id
    order by (split = 'test') desc nulls last, caption is null, root in (from away), location);
create view unlike as select *,
  row_number() over same as twin, first_value(location) over same as original_twin
  from ranked where copy = 1
  window same as (partition by pixels
    order by (split = 'test') desc nulls last, caption is null, root in (from away), location);
create view kept as select * from unlike where twin = 1;
create view verdicts as
  select location, id, 'drop' as verdict, error as reason, null as partner from latest where error is not null
  union all select location, id, 'drop', 'same bytes as another clip', original from ranked where copy > 1
  union all select location, id, 'drop', 'same pixels as another clip', original_twin from unlike where twin > 1
  union all select location, id, 'keep', 'sound and unlike the others', null from kept;
"""


_CHANGED = """
select new.* from verdicts new left join verdict old using (location)
where (new.id, new.verdict, new.reason, new.partner) is distinct from (old.id, old.verdict, old.reason, old.partner)
order by location
"""


def _decide(tables: dict[str, tuple[Path, pa.Schema]], out: Path, run: int, test_share: float) -> list[dict[str, Any]]:
    """Append the verdicts that changed to the ledger; return the clips kept, with their split, in order of location."""
    con = connect(tables)
    con.execute(LATEST.format(view="latest", table="observations"))
    con.execute(LATEST.format(view="verdict", table="decisions"))
    roots = [root for (root,) in con.execute("select distinct root from latest").fetchall()]
    con.execute("create table away as select unnest(?::varchar[])", [[r for r in roots if not os.path.exists(r)]])
    con.execute(_DECIDE)
    changed = con.sql(_CHANGED).to_arrow_table().to_pylist()
    if changed:
        signed = {"actor": "rule", "run": run, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        append(out / "decisions", f"{run:06d}", [row | signed for row in changed], DECISION)
    names = ", ".join(f'"{n}"' for n in ["stamp", *NARROW] if n not in ("row", "path"))
    kept = con.sql(f"select {names} from kept order by location").to_arrow_table().to_pylist()
    _divide(kept, test_share)
    return kept


def _divide(clips: list[dict[str, Any]], test_share: float) -> None:
    """Give each clip that has no split one, the same for all of a group.

    A split that is given for a clip of a group counts for the whole group; where several are, the held-back one does:
    'test', else any but 'train'. All others go by a hash of their name, so other clips do not move them, but for a set
    too small for one to fall to 'test': there the lowest hash is taken, and a later clip may have a lower one.
    """
    given: dict[str, str] = {}
    for clip in clips:
        if clip["group"] and clip["split"]:
            rivals = (clip["split"], given.get(clip["group"], clip["split"]))
            given[clip["group"]] = min(rivals, key=lambda split: (split != "test", split == "train", split))
    for clip in clips:
        clip["split"] = clip["split"] or given.get(clip["group"])
    free = {c["group"] or c["id"]: 0.0 for c in clips if not c["split"]}
    for name in free:
        free[name] = int(hash_bytes(name.encode(), 4), 16) / 2**32
    test = {name for name, place in free.items() if place < test_share}
    if not test and len(free) > 1 and not any(c["split"] == "test" for c in clips):
        test = {min(free, key=lambda name: free[name])}  # a small set still needs something to test on
    for clip in clips:
        clip["split"] = clip["split"] or ("test" if (clip["group"] or clip["id"]) in test else "train")


# ---- 3. store ----


def _store(clips: list[dict[str, Any]], out: Path, probe: Path, inline_bytes: int) -> None:
    """Bring `clips.lance` to hold exactly `clips`: rows that changed are appended anew, old versions stay in Lance.

    A clip that lies elsewhere now is a changed row, else the reference to a large file would stay dead for ever. So is
    a large clip whose source changed (a table may name another file), or that `inline_bytes` makes large or small.
    """
    if not clips:
        raise UserError("no clip could be read: see the reasons in the catalogue's decisions")
    for clip in clips:
        where = clip["stamp"] if clip["bytes"] > inline_bytes else ""
        clip["row"] = hash_bytes((as_json(clip, [n for n in NARROW if n not in ("row", "path")]) + where).encode(), 8)
    uri = out / "clips.lance"
    rows: set[tuple[str, str]] = set()
    if uri.exists():
        held = lance.dataset(uri).to_table(columns=["id", "row"])
        rows = set(zip(held["id"].to_pylist(), held["row"].to_pylist(), strict=True))
    wanted = {(clip["id"], clip["row"]) for clip in clips}
    new = [clip for clip in clips if (clip["id"], clip["row"]) not in rows]
    if new:
        with progress(len(new), "storing", "clips") as bar:
            for part in _parts(new, inline_bytes):
                lance.write_dataset(part, uri, schema=CLIP, mode="append" if uri.exists() else "create")
                bar.advance(len(part))
    dataset = lance.dataset(uri)
    stale = sorted(rows - wanted)
    for part in _batched(stale, 1024):
        dataset.delete(" or ".join(f"(id = '{i}' and row = '{r}')" for i, r in part))
    head = {"format": 1, "version": lance.dataset(uri).version, "clips": len(clips), "hash": manifest_hash(clips),
            "probe": str(probe.relative_to(out))}  # fmt: skip
    text = json.dumps(head, indent=1) + "\n"
    if not (out / "catalogue.json").exists() or (out / "catalogue.json").read_text() != text:
        write_text(out / "catalogue.json", text)


def _parts(clips: list[dict[str, Any]], inline_bytes: int) -> Iterator[pa.Table]:
    """Tables of `CLIP` with media, each one commit and at most one Lance fragment."""
    part: list[dict[str, Any]] = []
    size = 0
    for clip in clips:
        try:
            data = fetch(clip["location"])
        except BadMedia as bad:
            raise UserError(f"{clip['location']} changed while it was curated ({bad}): curate again") from None
        large = isinstance(data, Path) and clip["bytes"] > inline_bytes
        if isinstance(data, Path) and not large:
            data = data.read_bytes()
        if not large and identity(data, clip["frame_width"]) != clip["id"]:
            raise UserError(f"{clip['location']} changed while it was curated: curate again")
        part.append(clip | ({"path": str(data)} if large else {"media": data}))
        size += 0 if large else clip["bytes"]
        if len(part) == STORE or size >= STORE_BYTES:
            yield pa.Table.from_pylist(part, CLIP)
            part, size = [], 0
    if part:
        yield pa.Table.from_pylist(part, CLIP)


def _batched(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    values = list(values)
    return (values[i : i + size] for i in range(0, len(values), size))
