"""The latent cache: what a codec makes of a catalogue's clips, computed once and kept beside them.

CATALOGUE/latents/<codec>/<window>/
    <shard>/latents.npy     (n, t, h, w, c), read row by row through a memory map
    <shard>/rows.parquet    whose they are, with the moments and the spectrum of each
    statistics.json         of all that the last pass which encoded something was asked for

<codec> is the hash of the codec's parameters and configuration, <window> the frames, size, stride and number format. A
row belongs to a clip by the hash of its content, a first frame, a crop and a side: clips that are added cost only
themselves, another run with the same codec encodes nothing, and what is curated away is found when it comes back.

A shard is a folder that is renamed into place and never edited, so a pass that is killed loses the shard it was at.
Batches have one size for each window, whatever is missing and whichever run asks: XLA's sums depend on the size of a
batch in their last bits, though not on what else is in it.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diorama.codec import Codec, PixelCodec, encode
from diorama.core.array import Latents
from diorama.core.config import to_text
from diorama.core.errors import UserError
from diorama.core.files import hash_bytes, hash_file, sole_writer, write_aside, write_text
from diorama.core.layout import Layout
from diorama.core.progress import progress
from diorama.data import ClipSource, collate
from diorama.media import center_crop, crop
from diorama.net import LowResolutionConfig
from diorama.process.spectrum import rapsd
from diorama.run.examples import whole
from diorama.run.folder import Folder
from diorama.run.resolution import lowered, raised
from diorama.run.run import Bucket, Variants

VERSION = 1  # of how clips become latents: another one leaves what was stored before aside
TOGETHER, PIXELS = 16, 1 << 22  # clips that a device encodes at once, at most, and their pixels
SHARD, SHARD_BYTES = 1024, 64 << 20  # rows and bytes a shard, at most: what a kill may cost
OPEN = 256  # shards that are mapped at once; each holds a file open
THREADS = max(2, (os.cpu_count() or 2) // 2)  # that decode, each two clips ahead


@dataclass(frozen=True)
class View:
    """One way to look at a clip: which crop (0: the middle one, else placed by `seed`), and whether mirrored."""

    crop: int = 0
    mirrored: bool = False
    seed: int = 0

    def __str__(self) -> str:
        where = f" crop {self.crop} of {self.seed}" if self.crop else ""
        return where + " mirrored" * self.mirrored

    def __call__(self, frames: np.ndarray, identifier: str, h: int, w: int) -> np.ndarray:
        """The h x w window of `frames` (t, H, W, c) of the clip with this id; no copy."""
        if self.crop:
            place = np.random.default_rng([self.seed, int(identifier, 16), self.crop])
            y, x = (int(place.integers(have - need + 1)) for have, need in zip(frames.shape[1:3], (h, w), strict=True))
            seen = crop(frames, y, x, h, w)
        else:
            seen = center_crop(frames, h, w)
        return seen[:, :, ::-1] if self.mirrored else seen


def views(variants: Variants) -> list[View]:
    """All views that `variants` asks for; the first is the plain one."""
    sides = (False, True) if variants.flips else (False,)
    return [View(n, mirrored, variants.seed if n else 0) for n in range(variants.crops) for mirrored in sides]


def fingerprint(folder: Folder) -> str:
    """What tells the run's codec from every other: the hash of its parameters and its configuration."""
    config = folder.codec_config()
    path = folder.path / "codec.safetensors"
    held = hash_file(path) if path.exists() else ""  # pixels have none
    return hash_bytes(f"latents {VERSION} {held}\n{to_text(config)}".encode(), 8)


class Cache:
    """The latents of one codec for the clips of `source`, the examples of `bucket`, at all `views` of `variants`.

    root: the folder under which `latents/` lies, a catalogue's or a run's.
    low: where it is given, they are those of the clips made smaller by it and enlarged again.
    """

    def __init__(
        self, root: Path, codec: str, source: ClipSource, bucket: Bucket, variants: Variants,
        low: LowResolutionConfig | None = None,
    ):  # fmt: skip
        self.source, self.dtype, self.low = source, np.dtype(variants.dtype), low
        name = f"{bucket}.stride{bucket.stride}.{variants.dtype}"
        self.path = root / "latents" / codec / (name if low is None else f"{name}.low{low.space}x{low.time}")
        self.views = views(variants)
        pixels = bucket.frames * bucket.height * bucket.width
        self.together = min(max(PIXELS // pixels, 1), TOGETHER)
        ids = np.array([source.row(i)["id"] for i in range(len(source))])
        nth = np.arange(len(ids)) - np.searchsorted(ids, ids)  # among its clip's windows; clips are in order of id
        self.clip = np.unique(ids, return_inverse=True)[1]
        self.starts = nth * (bucket.hop or 0)

    @cached_property
    def keys(self) -> pa.Array:
        """The name of every row, of all views of one example and then of the next."""
        return pa.array(
            f"{self.source.row(i)['id']}@{start}{view}" for i, start in enumerate(self.starts) for view in self.views
        )

    @property
    def clips(self) -> int:
        """How many clips there are; each is one example or several."""
        return int(self.clip[-1]) + 1

    @property
    def bytes(self) -> int:
        """What all rows take on disk, but for whose they are."""
        return len(self.keys) * self.index().read(0).size * self.dtype.itemsize

    def shards(self) -> list[Path]:
        """The shards that are there, in order of name."""
        return sorted(path.parent for path in self.path.glob("[!.]*/rows.parquet"))

    def index(self) -> "Index":
        """Where every row lies, of those that are there now."""
        shards = self.shards()
        held = [pq.read_table(shard / "rows.parquet", columns=["key"])["key"].combine_chunks() for shard in shards]
        ends = np.cumsum([len(keys) for keys in held], dtype=np.int64)
        known = pa.concat_arrays(held) if held else pa.array([], pa.string())
        found = pc.fill_null(pc.index_in(self.keys, value_set=known), -1).to_numpy().astype(np.int64)
        shard = np.searchsorted(ends, found, side="right")
        row = found - np.concatenate([[0], ends])[shard]
        return Index(shards, np.where(found < 0, -1, shard), np.where(found < 0, -1, row))

    def fill(self, codec: Codec | PixelCodec, layout: Layout, what: str) -> int:
        """Encode what is missing: this process its share of the clips, each device of `layout` its part of a batch.

        Returns how many latents that were, of all processes. what: the name of the bar. Raises `UserError` when another
        call is at it, a clip cannot be read any more, or a latent is not finite.
        """
        devices = [d for d in layout.mesh.devices.flat if d.process_index == jax.process_index()]
        missing = self.index().missing
        _meet(self.path)  # nobody writes before all have looked
        if len(missing):
            with sole_writer(self.path, "encoding into") if jax.process_index() == 0 else nullcontext():
                self._encode(codec, devices or jax.local_devices()[:1], self.index().missing, what)
                _meet(self.path)
        told = (self.path / "statistics.json").exists() or not os.access(self.path, os.W_OK)
        if len(missing) or not told:
            self.statistics()
        return len(missing)

    def statistics(self) -> dict[str, Any]:
        """What is written to statistics.json: how many `latents` all these are, their `shape` (t, h, w, c), the `mean`
        and `deviation` of every channel, and the `spectrum`, for k frequencies a list of channels (see `rapsd`)."""
        index = self._whole()
        names, found = ["mean", "square", "power"], []
        for number in np.unique(index.shard):
            rows = index.row[index.shard == number]
            table = pq.read_table(index.shards[number] / "rows.parquet", columns=names).take(rows)
            columns = (table[name].combine_chunks().flatten().to_numpy() for name in names)
            found.append([column.reshape(len(rows), -1).sum(0, dtype=np.float64) for column in columns])
        mean, square, power = (np.sum(sums, axis=0) / len(index.row) for sums in zip(*found, strict=True))
        told = {
            "latents": len(index.row),
            "shape": list(index.read(0).shape),
            "mean": mean.tolist(),
            "deviation": np.sqrt(np.maximum(square - mean**2, 0)).tolist(),
            "spectrum": power.reshape(-1, len(mean)).tolist(),
        }
        if jax.process_index() == 0:
            write_text(self.path / "statistics.json", json.dumps(told, indent=1) + "\n")
        return told

    def _whole(self) -> "Index":
        index = self.index()
        if len(index.missing):
            raise UserError(
                f"{self.path} lacks {len(index.missing):,} latents: can all processes write and read there?"
            )
        return index

    def rows(self, beside: np.ndarray | None = None) -> "Rows":
        """The latents in the source's order, which `fill` has seen to; each with the channels `beside` (t, h, w, k).

        Raises `UserError` when some are missing.
        """
        return Rows(self._whole(), len(self.views), beside)

    def _encode(self, codec: Codec | PixelCodec, devices: list[jax.Device], missing: np.ndarray, what: str) -> None:
        mine = missing[self.clip[missing // len(self.views)] % jax.process_count() == jax.process_index()]
        frames, h, w = self.source.frames, self.source.height, self.source.width
        shape = codec.latent_shape(frames, h, w)
        most = max(1, min(SHARD, SHARD_BYTES // (int(np.prod(shape)) * self.dtype.itemsize)))
        total = len(self.keys) if jax.process_count() == 1 else len(mine)
        with progress(total, what, "latents", done=total - len(mine), show=jax.process_index() == 0) as bar:
            rows, parts = mine, list[list[np.ndarray]]()
            for part in self._encoded(codec, devices, mine):
                bar.advance(len(part[0]))
                parts.append(part)
                while (have := sum(len(latents) for latents, *_ in parts)) >= min(most, len(rows)) > 0:
                    columns = [np.concatenate(each) for each in zip(*parts, strict=True)]
                    self._write(rows[: min(most, have)], [column[:most] for column in columns])
                    rows, parts = rows[most:], [[column[most:] for column in columns]]

    def _encoded(
        self, codec: Codec | PixelCodec, devices: list[jax.Device], rows: np.ndarray
    ) -> Iterator[list[np.ndarray]]:
        """Latents, their means, mean squares and spectra (see `_measured`), batch by batch in order of `rows`."""
        mesh = Mesh(np.array(devices), ("data",))
        codec = jax.device_put(codec, NamedSharding(mesh, PartitionSpec()))
        split, size = NamedSharding(mesh, PartitionSpec("data")), self.together * mesh.size
        done = 0
        for media in _batches(self._media(rows), size):
            n = len(media)
            latents = encode(codec, jax.device_put(whole(collate(media)["media"], size), split))
            found = [np.asarray(x)[:n] for x in (latents, *_measured(latents))]
            stored = found[0].astype(self.dtype)
            finite = np.isfinite(stored).reshape(n, -1).all(1)
            if not finite.all():
                clip = self.source.row(int(rows[done + int(np.argmin(finite))]) // len(self.views))
                raise UserError(
                    f"the latents of {clip['location']} are not finite: is the codec trained? look at its log"
                )
            done += n
            yield [stored, *found[1:]]

    def _media(self, rows: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        """The media of `rows`, in order; every clip is decoded once, and some ahead."""
        if not len(rows):
            return
        groups = np.split(rows, np.flatnonzero(np.diff(self.clip[rows // len(self.views)])) + 1)
        options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=2 * THREADS)
        decoded = grain.MapDataset.source(_Decoded(self, groups)).to_iter_dataset(options)
        for clip in decoded:
            yield from clip

    def look(self, rows: np.ndarray) -> list[dict[str, np.ndarray]]:
        """The media of some rows of one clip: uint8 (t, h, w, 3), as they go into the codec."""
        source = self.source
        clip = source.row(int(rows[0]) // len(self.views))
        middle = all(view.crop == 0 for view in self.views)  # then what codec training decoded serves again
        frames = source.catalogue.frames(clip, source.height, source.width, crop=middle)
        span = (source.frames - 1) * source.stride + 1
        out = []
        for row in rows:
            example, view = divmod(int(row), len(self.views))
            start = int(self.starts[example])
            window = frames[start : start + span : source.stride]
            seen = self.views[view](window, clip["id"], source.height, source.width)
            if self.low:
                seen = raised(lowered(seen, self.low), self.low, *seen.shape[:3])
            out.append({"media": seen})
        return out

    def _write(self, rows: np.ndarray, columns: Sequence[np.ndarray]) -> None:
        """One shard, whole or not at all, under a name that its rows make."""
        keys, (latents, mean, square, power) = self.keys.take(pa.array(rows)), columns
        numbers = {"mean": mean, "square": square, "power": power.reshape(len(rows), -1)}
        table = pa.table(
            {"key": keys} | {name: pa.array(list(x), pa.list_(pa.float32())) for name, x in numbers.items()}
        )
        name = hash_bytes("\n".join(keys.to_pylist()).encode(), 8)
        with write_aside(self.path / name) as aside:
            aside.mkdir()
            np.save(aside / "latents.npy", latents)
            pq.write_table(table, aside / "rows.parquet", compression="zstd")


@dataclass(frozen=True)
class Index:
    """Where rows lie: shard and row in it of each, -1 for one that is missing."""

    shards: list[Path]
    shard: np.ndarray
    row: np.ndarray

    @property
    def missing(self) -> np.ndarray:
        """The rows that are not there, in order."""
        return np.flatnonzero(self.row < 0)

    def read(self, row: int) -> np.ndarray:
        """A row's latents (t, h, w, c) as they are stored. Raises `UserError` for a damaged shard."""
        return _mapped(self.shards[self.shard[row]])[self.row[row]]


class Rows(Sequence[Any]):
    """Latents, read when they are asked for: `rows[i]` is float32 (t, h, w, c) of example i, or its `Choice` where
    there are several views. To be a column of an `ArraySource`."""

    def __init__(self, index: Index, views: int, beside: np.ndarray | None = None):
        self.views, self._index, self._beside = views, index, beside

    def __len__(self) -> int:
        return len(self._index.row) // self.views

    def __getitem__(self, i: Any) -> Any:
        return self.read(i, 0) if self.views == 1 else Choice(self, i)

    def read(self, i: int, view: int) -> np.ndarray:
        """Example i as that view shows it; float32 (t, h, w, c)."""
        row = self._index.read(int(i) * self.views + view).astype(np.float32, copy=False)
        return row if self._beside is None else np.concatenate([row, self._beside], axis=-1)


@dataclass(frozen=True)
class Choice:
    """The views of one example, none of them read yet."""

    rows: Rows
    example: int


def draw(example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """An augmentation for `loader`: one of the views, all alike likely, drawn by the place in the stream."""
    view = int(rng.integers(example["media"].rows.views))
    choices = {name: value for name, value in example.items() if isinstance(value, Choice)}  # a low resolution's too
    return example | {name: choice.rows.read(choice.example, view) for name, choice in choices.items()}


@dataclass(frozen=True)
class _Decoded:
    """Random access for Grain: the media of groups of rows, each of one clip."""

    cache: Cache
    groups: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, i: int) -> list[dict[str, np.ndarray]]:
        return self.cache.look(self.groups[i])


def _batches(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size`, the last one shorter."""
    batch = []
    for value in values:
        batch.append(value)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _meet(where: Path) -> None:
    """Wait for the other processes, if there are any."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(str(where))


@jax.jit
def _measured(latents: Latents) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of every example its mean and mean square (b, c), and its spectrum's mean over frames (b, k, c)."""
    over = (1, 2, 3)
    return jnp.mean(latents, over), jnp.mean(latents**2, over), jnp.mean(rapsd(latents), 1)


@lru_cache(OPEN)
def _mapped(shard: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(shard / "latents.npy", mmap_mode="r"))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{shard} is damaged ({error}): delete that folder, and it is encoded again") from None
