"""Curation: from sources to a catalogue of clips to train on, with a reason for everything left out.

Three steps, each safe to kill and each doing only what is not yet done:

1. observe: every item is decoded once, in a guarded process; what was seen, or why it could not be read, is a row of
   an observation shard. An item is done when a shard that holds its stamp exists.
2. decide: people's judgements and the policy's rules say keep or drop. Verdicts that changed go to the ledger.
3. store: the clips kept, with their bytes or a reference, are brought into `clips.lance`; last, `catalogue.json` names
   the version that is complete, so a reader never sees a half-finished one.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from diorama.core.errors import UserError
from diorama.core.files import hash_bytes, sole_writer, write_text
from diorama.core.progress import progress
from diorama.data.catalogue import Catalogue, Summary, manifest_hash
from diorama.data.decide import Decision, folders, views
from diorama.data.derive import derive
from diorama.data.ledger import CLIP, NARROW, as_json, batched, probe_folder
from diorama.data.observe import GONE, Work, identity, observe
from diorama.data.rules import Curation
from diorama.data.sources import Item, fetch, listing
from diorama.media import BadMedia

STORE = 4096  # clips a Lance fragment, at most
STORE_BYTES = 128 << 20


def curate(
    sources: Sequence[Path | str],
    out: Path | str,
    policy: Curation = Curation(),  # noqa: B008 - frozen
    *,
    workers: int | None = None,
) -> Summary:
    """Bring every clip of `sources` into the catalogue folder `out`; what is done already is not done again.

    A source is a folder (walked; sidecars `*.jsonl`, `*.json`, `*.csv` and `NAME.txt` say things about its files), a
    Parquet file with a column of encoded media, an IDX or an NPZ file. `policy` says what is measured and what is left
    out. A clip without a split follows one given to its group; the others are divided by a hash of their group or id.
    Sources add up over calls; a file that has gone from its source is dropped. Raises `UserError` for a source that is
    missing or a malformed sidecar; a file that cannot be read is a decision with its reason, never an error.
    """
    out = Path(os.path.abspath(out))
    with sole_writer(out, "curating"):
        decision, run, new = examine(sources, out, policy, workers=workers)
        decision.record(run)
        _write(out / "policies" / f"{policy.fingerprint}.txt", policy.text())
        _store(decision.kept(), out, probe_folder(out, policy.limits), policy)
    return Catalogue(out).summary(new=new)


def examine(
    sources: Sequence[Path | str], out: Path, policy: Curation, *, workers: int | None = None
) -> tuple[Decision, int, int]:
    """The first steps of `curate`, in the absolute folder `out`: look at what is new, decide, record no verdict.

    Returns the decision, the number of this run, and of the items looked at.
    """
    items: dict[str, Item] = {}
    for source in sources:
        for item in listing(Path(source), skip=out):
            items.setdefault(item.location, item)
    if not items:
        raise UserError(f"nothing to curate: {', '.join(map(str, sources))} holds no files")
    probe = probe_folder(out, policy.limits)
    con = views(out, probe, policy)
    seen = {location: (stamp, root) for location, stamp, root in
            con.execute("select location, stamp, root from latest").fetchall()}  # fmt: skip
    [(run,)] = con.execute(
        "select coalesce(max(run), 0) + 1 from (select run from observations union all select run from decisions)"
    ).fetchall()
    roots = {os.path.abspath(source) for source in sources}
    new = [item for item in items.values() if seen.get(item.location, ("", ""))[0] != item.stamp]
    gone = [Item(location, root, GONE) for location, (stamp, root) in sorted(seen.items())
            if root in roots and location not in items and stamp != GONE]  # fmt: skip
    again = _unmeasured(con, policy, {item.location for item in [*new, *gone]})
    work = [*(Work(item, policy.stages) for item in new), *(Work(item, ()) for item in gone), *again]
    observe(work, out, probe, run, policy.limits, workers or os.cpu_count() or 1)
    for stage in policy.derived:
        derive(views(out, probe, policy), stage, folders(out, policy)[stage.name], out / "models" / stage.name)
    return Decision(out, probe, policy), run, len(new) + len(again)


def _unmeasured(con: Any, policy: Curation, skip: set[str]) -> list[Work]:
    """Clips that are known, but not measured yet by every stage: by each lacking stage, at one of their locations."""
    lacking: dict[str, list[Any]] = {}
    items: dict[str, Item] = {}
    for stage in policy.stages:
        rows = con.execute(
            "select id, list((location, root, stamp, frame_width) order by location) from latest "
            f"where error is null and id not in (select id from {stage.name}) group by id order by id"
        ).fetchall()
        for identifier, places in rows:
            there = (p for p in places if p[0] not in skip and os.path.exists(p[0].rpartition("#")[0] or p[0]))
            place = next(there, None)
            if place:
                location, root, stamp, width = place
                items[identifier] = Item(location, root, stamp, {"frame_width": width} if width else {})
                lacking.setdefault(identifier, []).append(stage)
    return [Work(items[i], tuple(stages), i) for i, stages in lacking.items()]


def _store(clips: list[dict[str, Any]], out: Path, probe: Path, policy: Curation) -> None:
    """Bring `clips.lance` to hold exactly `clips`: rows that changed are appended anew, old versions stay in Lance.

    A clip that lies elsewhere now is a changed row, else the reference to a large file would stay dead for ever. So is
    a large clip whose source changed (a table may name another file), or that `inline_bytes` makes large or small.
    """
    if not clips:
        raise UserError("no clip is left: see the reasons in the catalogue's decisions")
    for clip in clips:
        where = clip["stamp"] if clip["bytes"] > policy.inline_bytes else ""
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
            for part in _parts(new, policy.inline_bytes, uri):
                lance.write_dataset(part, uri, schema=CLIP, mode="append" if uri.exists() else "create")
                bar.advance(len(part))
    dataset = lance.dataset(uri)
    stale = sorted(rows - wanted)
    for part in batched(stale, 1024):
        dataset.delete(" or ".join(f"(id = '{i}' and row = '{r}')" for i, r in part))
    head = {"format": 1, "version": lance.dataset(uri).version, "clips": len(clips), "hash": manifest_hash(clips),
            "probe": str(probe.relative_to(out)), "policy": policy.fingerprint,
            "stages": {name: str(place.relative_to(out)) for name, place in folders(out, policy).items()}}  # fmt: skip
    _write(out / "catalogue.json", json.dumps(head, indent=1) + "\n")


def _held_before(uri: Path, identifier: str) -> bytes | None:
    """A clip's bytes out of any version of `clips.lance`: one that was left out may come back without its source."""
    versions = lance.dataset(uri).versions() if uri.exists() else []
    for version in reversed(versions):
        dataset = lance.dataset(uri, version=version["version"])
        rows = dataset.to_table(columns=["media"], filter=f"id = '{identifier}' and media is not null", limit=1)
        if len(rows):
            return rows["media"][0].as_py()
    return None


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        write_text(path, text)


def _parts(clips: list[dict[str, Any]], inline_bytes: int, uri: Path) -> Iterator[pa.Table]:
    """Tables of `CLIP` with media, each one commit and at most one Lance fragment."""
    part: list[dict[str, Any]] = []
    size = 0
    for clip in clips:
        data: Path | bytes | None
        try:
            data = fetch(clip["location"])
        except BadMedia:
            data = None
        large = isinstance(data, Path) and clip["bytes"] > inline_bytes
        if isinstance(data, Path) and not large:
            data = data.read_bytes()
        if data is None or (not large and identity(data, clip["frame_width"]) != clip["id"]):
            data = _held_before(uri, clip["id"])
        if data is None:
            where = clip["location"]
            raise UserError(
                f"{where} is away or changed since it was looked at: bring it back, or curate its folder again"
            )
        part.append(clip | ({"path": str(data)} if large else {"media": data}))
        size += 0 if large else clip["bytes"]
        if len(part) == STORE or size >= STORE_BYTES:
            yield pa.Table.from_pylist(part, CLIP)
            part, size = [], 0
    if part:
        yield pa.Table.from_pylist(part, CLIP)
