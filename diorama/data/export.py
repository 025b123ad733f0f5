"""A catalogue for the tools of others: a Hugging Face folder, WebDataset shards, or Parquet; `curate` reads all three.

Media go out as they came in, never encoded again, with everything that is said of them, where they came from, their
size and length, and their weight in training.
"""

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from diorama.core.errors import UserError
from diorama.core.files import write_aside
from diorama.core.progress import progress
from diorama.data.catalogue import Catalogue
from diorama.data.frames import VETTED
from diorama.data.observe import identity
from diorama.data.sources.said import FILE, SAID
from diorama.data.sources.tables import MEDIA
from diorama.media import Part, Source, read, write_mp4

QUALITY = 12  # x264's rate factor of clips that were cut
READ = 64  # clips read at a time
SHARD = 4096  # clips a file, at most
SHARD_BYTES = 1 << 30
_TAKEN = {"member", *FILE, *MEDIA}  # words by which readers find media
# What a catalogue knows of every clip, which goes along beside what people said. Not "frames" and "width": both
# together would say that a picture is a strip.
_KNOWN = {"original_location": pa.string(), "t": pa.int32(), "h": pa.int32(), "w": pa.int32(), "seconds": pa.float64(),
          "weight": pa.float64()}  # fmt: skip
_TYPES = _KNOWN | {name: kind for name, (kind, _) in SAID.items()}


def export(catalogue: Catalogue, out: Path | str, form: str) -> int:
    """Write every clip of `catalogue` into the new folder `out`; returns their number.

    form: "folder" (`SPLIT/ID.ext` and a `metadata.jsonl` each, as Hugging Face's imagefolder and videofolder read),
    "webdataset" (`SPLIT-000000.tar` of ID.ext and ID.json) or "parquet" (`SPLIT-000000.parquet`, a column `media` of
    bytes and path). Raises `UserError` for another form, or when `out` holds something.
    """
    write = {"folder": _folder, "webdataset": _tar, "parquet": _parquet}.get(form)
    if write is None:
        raise UserError(f"'{form}' is no form of export: use folder, webdataset or parquet")
    out = Path(os.path.abspath(out))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: name a new folder")
    table = catalogue.clips()
    with write_aside(out) as aside, progress(len(table), "exporting", "clips") as bar:
        aside.mkdir()
        for split in sorted(set(table["split"].to_pylist())):
            rows = table.filter(pa.compute.equal(table["split"], split)).to_pylist()
            for number, shard in enumerate(_shards(catalogue, rows)):
                write(aside, split, number, shard)
                bar.advance(len(shard))
    return len(table)


Shard = list[tuple[str, bytes, dict[str, Any]]]  # file name, media, what is said


def _shards(catalogue: Catalogue, rows: list[dict[str, Any]]) -> Iterator[Shard]:
    clips = _clips(catalogue, rows)
    shard: Shard = []
    size = 0
    for clip in clips:
        shard.append(clip)
        size += len(clip[1])
        if len(shard) == SHARD or size >= SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _clips(catalogue: Catalogue, rows: list[dict[str, Any]]) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    todo = iter(rows)
    while part := list(islice(todo, READ)):
        for row, media in zip(part, catalogue.media(part), strict=True):
            data = _bytes(row, media)
            more = {k: v for k, v in json.loads(row["more"] or "{}").items() if k not in _TAKEN}
            known = row | {
                "original_location": str(more.get("original_location", row["location"])),  # exported twice: the first
                "seconds": row["t"] / row["rate"] if row["rate"] else None,
            }
            said = {name: known[name] for name in _TYPES if known[name] is not None}
            yield row["id"] + _suffix(row), data, more | said


def _bytes(row: dict[str, Any], media: Source) -> bytes:
    """A clip's media; encoded, where it is a part of a file. Raises `UserError` for one that is gone or changed."""
    whole = media.source if isinstance(media, Part) else media
    try:
        data = whole if isinstance(whole, bytes) else Path(whole).read_bytes()
    except OSError:
        data = b""
    if identity(data, row["frame_width"]) != (row["asset"] or row["id"]):
        raise UserError(f"{row['location']} is away or changed since it was curated: curate again")
    return _encoded(replace(media, source=data)) if isinstance(media, Part) else data


def _encoded(part: Part) -> bytes:
    """A part of a video as a file of its own: H.264 at a quality at which no difference is seen, and its sound."""
    media = read(part, VETTED)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        write_mp4(file, media.frames, media.rate or 1.0, media.sound, media.sound_rate, quality=QUALITY)
        return file.read_bytes()


def _suffix(row: dict[str, Any]) -> str:
    """The ending of a clip's file: its own, or its format's."""
    if row["asset"]:
        return ".mp4"
    path = json.loads(row["more"] or "{}").get("member") or row["location"]
    own = Path(path).suffix
    return own.lower() if own and "#" not in own else f".{row['format'].split(',')[0].lower()}"


def _folder(out: Path, split: str, number: int, shard: Shard) -> None:
    (out / split).mkdir(exist_ok=True)
    with (out / split / "metadata.jsonl").open("a", encoding="utf-8") as words:
        for name, data, said in shard:
            (out / split / name).write_bytes(data)
            words.write(json.dumps({**said, "file_name": name}) + "\n")


def _tar(out: Path, split: str, number: int, shard: Shard) -> None:
    with tarfile.open(out / f"{split}-{number:06d}.tar", "w") as tar:
        for name, data, said in shard:
            for member, content in ((name, data), (f"{Path(name).stem}.json", json.dumps(said).encode())):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def _parquet(out: Path, split: str, number: int, shard: Shard) -> None:
    columns = {"media": pa.array([{"bytes": data, "path": name} for name, data, _ in shard])}
    for word in dict.fromkeys(word for _, _, said in shard for word in said):
        values = [said.get(word) for _, _, said in shard]
        if word in _TYPES:
            columns[word] = pa.array(values, _TYPES[word])
        else:
            columns[word] = pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values])
    pq.write_table(pa.table(columns), out / f"{split}-{number:06d}.parquet", row_group_size=256)
