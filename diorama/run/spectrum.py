"""Looking at data and runs by frequency: what `diorama spectrum` draws.

Of a run, everything that needs its models is computed here and kept in `evaluation/spectrum.npz`. Clips are held-back
ones where there are any, drawn by the run's seed; samples have the prompts of the same clips.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec import Codec, PixelCodec
from diorama.codec.codec import on_grid
from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.core.files import write_aside
from diorama.core.progress import progress
from diorama.data import Catalogue
from diorama.data.sources.listing import fetch, listing
from diorama.data.strip import cut
from diorama.diffusion import Denoiser
from diorama.evaluate import quantise
from diorama.evaluate.artefacts import grid_alarm
from diorama.media import BadMedia, Reader, Source, center_crop
from diorama.net import TransformerConfig
from diorama.process.spectrum import drowning, noise_in_space, rapsd, tpsd
from diorama.run.against import Null, guided
from diorama.run.evaluate import fingerprint
from diorama.run.examples import clips, conditions, media_of, some
from diorama.run.folder import Folder
from diorama.run.look import in_parts
from diorama.run.resolution import signals_of
from diorama.run.run import Bucket, Run, Sampling
from diorama.sample.trajectory import trajectory

FORMAT = 2  # of spectrum.npz: another number means looking again
CLIPS = {1: 96, 2: 32}  # stills and videos that are measured
LEAST = 16  # held-back clips; where there are fewer, training clips are looked at
DRAWN, TOGETHER = 32, 8  # samples, and how many are drawn at once; of the first ones, the way is shown
FILES, FRAMES, SIDE = 256, 64, 512  # of data that are no run's: at most, and pixels of what is cut out of the middle


@dataclass(frozen=True)
class Seen:
    """What was seen of clips of one kind. `about` is JSON.

    arrays: spectra `space_*` and `time_*` (n, k) by what they are of: data, again (what the codec gives back), error
    (data less again), drawn (samples), latents, drawn_latents; `shown` clips uint8. Of samples, `way_latents` and
    `way_drawn` (steps + 1, k), the spectrum of x0 as predicted before each step and of the finished sample, `way` uint8
    (m, steps + 1, h, w, 3), the middle frame of them, and `unguided_*` as `way_*` without guidance. `drowns` (k,) is
    the noise time at which latents' frequencies drown in noise of the spectrum `noise` (k,); `taus` (steps + 1,) are
    those of the run's sampling, with their `logsnr`.
    """

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]


def spectra_of_data(path: Path) -> list[Seen]:
    """Of a catalogue, a folder of media or one file: stills and videos, each if there are any.

    Every clip is measured at its own size, a square out of its middle; those too small for the square are left out.
    Raises `UserError` where nothing can be read.
    """
    found: dict[bool, list[np.ndarray]] = {}
    for frames in _decoded(path):
        found.setdefault(len(frames) > 1, []).append(frames)
    if not found:
        raise UserError(f"{path} holds no picture and no video that can be read")
    return [_of_clips(path, found[moving]) for moving in sorted(found)]


def _of_clips(path: Path, found: list[np.ndarray]) -> Seen:
    side = min(SIDE, int(np.median([min(x.shape[1:3]) for x in found])))
    frames = min(FRAMES, int(np.median([len(x) for x in found])))
    fit = [x[:frames] for x in found if min(x.shape[1:3]) >= side and len(x) >= frames]
    if side < 8:
        raise UserError(f"the pictures of {path} are {side} pixels a side: a spectrum takes at least 8")
    media = np.stack([center_crop(x, side, side) for x in fit])
    about = {"name": path.resolve().name, "n": len(media), "left_out": len(found) - len(fit),
             "shape": list(media.shape[1:4])}  # fmt: skip
    return Seen(about, {"shown": media[:TOGETHER]} | _measured("data", media / np.float32(127.5) - 1))


def _decoded(path: Path) -> Iterator[np.ndarray]:
    """Frames uint8 (t, h, w, 3) of the clips that can be read, `FILES` of them, drawn at random from a catalogue."""
    if path.is_dir() and (path / "catalogue.json").exists():
        catalogue = Catalogue(path)
        rows = catalogue.clips().to_pylist()
        rows = [rows[i] for i in some(len(rows), FILES, 0)]
        sources, widths = catalogue.media(rows), [row["frame_width"] for row in rows]
    else:
        sources = list(islice(_sources(path), FILES))
        widths = [None] * len(sources)
    with Reader() as reader, progress(len(sources), "reading", "clips", show=len(sources) > 1) as bar:
        for media, width in zip(reader.map(sources, count=FRAMES), widths, strict=True):
            bar.advance(1)
            if not isinstance(media, BadMedia):
                yield cut(media.frames, width) if width else media.frames[:FRAMES]


def _sources(path: Path) -> Iterator[Source]:
    for item in listing(path):
        try:
            yield fetch(item.location)
        except BadMedia:
            continue


def _measured(name: str, x: np.ndarray) -> dict[str, np.ndarray]:
    """Spectra in space and in time of clips (n, t, h, w, c), each a mean over channels and all else; (n, k)."""
    space = {f"space_{name}": in_parts(_in_space, min(len(x), TOGETHER), x)}
    time = {f"time_{name}": in_parts(_in_time, min(len(x), TOGETHER), x)} if x.shape[1] > 1 else {}
    return space | time


@jax.jit
def _in_space(x: Array) -> Array:
    return rapsd(x).mean((1, 3))


@jax.jit
def _in_time(x: Array) -> Array:
    return tpsd(x).mean(2)


def spectra_of_run(folder: Folder) -> list[Seen]:
    """Of the first kind of stills and of videos that a run has clips of; computed once, and again when its settings,
    parameters or data change.

    Raises `UserError` when the run is not trained or its catalogue is gone.
    """
    path, key = folder.path / "evaluation" / "spectrum.npz", f"{FORMAT} {fingerprint(folder)}"
    if path.exists():
        with np.load(path) as file:
            kept = json.loads(str(file["about"]))
            if kept["key"] == key:
                names = [name.partition("/") for name in file.files]
                return [Seen(about, {name: file[f"{i}/{name}"] for j, _, name in names if j == str(i)})
                        for i, about in enumerate(kept["seen"])]  # fmt: skip
    seen = [_seen(folder, bucket) for bucket in _buckets(folder)]
    if not seen:
        raise UserError(f"{folder.catalogue().path} has no clips of the run's sizes: nothing to look at")
    path.parent.mkdir(exist_ok=True)
    with write_aside(path) as aside:
        about = json.dumps({"key": key, "seen": [one.about for one in seen]})
        arrays = {f"{i}/{name}": array for i, one in enumerate(seen) for name, array in one.arrays.items()}
        np.savez_compressed(aside, about=np.array(about), **arrays)  # type: ignore[arg-type]
    return seen


def _buckets(folder: Folder) -> list[Bucket]:
    """The first of stills and the first of videos that have training clips."""
    catalogue, found = folder.catalogue(), dict[bool, Bucket]()
    for bucket in folder.run().denoiser.buckets:
        if (bucket.frames > 1) not in found and clips(catalogue, bucket, "train"):
            found[bucket.frames > 1] = bucket
    return [found[moving] for moving in sorted(found)]


def _seen(folder: Folder, bucket: Bucket) -> Seen:
    run, catalogue, codec, denoiser = folder.run(), folder.catalogue(), folder.codec(), folder.denoiser()
    held = clips(catalogue, bucket, "test")
    held_back = held is not None and len(held) >= LEAST
    source = held if held_back else clips(catalogue, bucket, "train")
    assert source is not None
    rows = some(len(source), CLIPS[min(bucket.frames, 2)], run.seed)
    media, asked = media_of(source, rows), np.resize(rows, DRAWN)
    x = media / np.float32(127.5) - 1
    latents, again = in_parts(partial(_there_and_back, codec), min(bucket.batch, TOGETHER), x)
    captions = source.captions
    signals = conditions(run, folder, [captions[i] for i in asked], source.labels[asked])
    if run.denoiser.denoiser.low:
        signals |= signals_of(run, codec, bucket, media_of(source, asked), np.arange(len(asked)))
    way = _ways(run, folder, codec, denoiser, bucket, signals)
    drawn = way.pop("drawn")
    arrays = _measured("data", x) | _measured("drawn", drawn)
    if isinstance(codec, Codec):
        arrays |= _measured("again", again) | _measured("error", x - again)
    process, grid = denoiser.process.of(latents.shape[1:]), not isinstance(codec, Codec) or on_grid(codec.config)
    if grid and min(latents.shape[2:4]) > 1:
        arrays |= _measured("latents", latents) | _measured("drawn_latents", way.pop("latents"))
        noise = noise_in_space(process.noise, *latents.shape[1:4])
        arrays |= {"noise": noise, "drowns": drowning(process, arrays["space_latents"].mean(0), noise),
                   "logsnr": np.asarray(process.logsnr(jnp.asarray(way["taus"])))}  # fmt: skip
    else:
        way = {name: found for name, found in way.items() if not name.endswith("latents")}
    about = {
        "bucket": str(bucket), "shape": [bucket.frames, bucket.height, bucket.width], "n": len(media),
        "drawn": DRAWN, "seed": run.seed, "held_back": held_back, "codec": isinstance(codec, Codec),
        "guidance": float(run.sampling.guidance.scale),
        "latents": list(latents.shape[1:]), "process": repr(denoiser.process),
        "prompts": [captions[i] for i in asked[:TOGETHER]],
        "alarms": _alarms(folder, media, quantise(drawn), quantise(again) if isinstance(codec, Codec) else None),
    }  # fmt: skip
    arrays |= way | {"shown": media[:TOGETHER]}
    return Seen(json.loads(json.dumps(about)), arrays)  # as it is when read back


@jax.jit
def _there_and_back(codec: Codec | PixelCodec, media: Array) -> tuple[Array, Array]:
    latents = codec.encode(media)
    return latents, codec.decode(latents)[:, : media.shape[1], : media.shape[2], : media.shape[3]]


def _ways(
    run: Run, folder: Folder, codec: Codec | PixelCodec, denoiser: Denoiser, bucket: Bucket, signals: dict[str, Any]
) -> dict[str, np.ndarray]:
    """`DRAWN` samples, with what the denoiser believed before each step."""
    how, shape = run.sampling, codec.latent_shape(bucket.frames, bucket.height, bucket.width)
    taus = how.taus(denoiser.process.of(shape))
    size = bucket.frames, bucket.height, bucket.width
    draw = partial(_way, codec, denoiser, how.against.load(folder), how=how, taus=tuple(taus.tolist()), shape=shape,
                   size=size, seed=run.seed)  # fmt: skip
    ids, own = np.arange(DRAWN, dtype=np.uint32), float(how.guidance.scale)
    guides = own != 1 and (signals or how.against != Null())  # else there is nothing to lead away from
    scales = np.full(DRAWN, own, np.float32) if guides else None
    out = in_parts(lambda *given: draw(*given), TOGETHER, ids, signals, scales)
    found = {"drawn": out["drawn"], "latents": out["latents"], "taus": taus, "way": quantise(out["way"][:TOGETHER])}
    if guides:
        few = jax.tree.map(lambda x: x[: DRAWN // 2], (ids, signals))
        alone = in_parts(lambda *given: draw(*given), TOGETHER, *few, np.ones(DRAWN // 2, np.float32))
        found |= {f"unguided_{name}": alone[f"way_{name}"].mean(0) for name in ("latents", "drawn")}
    return found | {name: out[name].mean(0) for name in ("way_latents", "way_drawn")}


@partial(jax.jit, static_argnames=("how", "taus", "shape", "size", "seed"))
def _way(
    codec: Codec | PixelCodec, denoiser: Denoiser, weak: Denoiser | None, ids: Array, batch: dict[str, Array],
    scale: Array | None, how: Sampling, taus: tuple[float, ...], shape: tuple[int, ...],
    size: tuple[int, int, int], seed: int,
) -> dict[str, Array]:  # fmt: skip
    """Noise to media, and every step's x0 decoded, in one program; what is of steps has them after the batch, and the
    finished sample last."""
    denoises, signals = guided(how, denoiser, weak, denoiser.conditions.signals(batch), len(ids), scale)
    latents, x0 = trajectory(denoises, denoiser.process, how.solver, np.array(taus), ids, shape, seed=seed,
                             conditions=signals)  # fmt: skip
    t, h, w = size

    def decoded(latents: Array) -> Array:
        return codec.decode(latents)[:, :t, :h, :w]

    def look(x0: Array) -> tuple[Array, Array, Array]:
        media = decoded(x0)
        return _in_space(x0), _in_space(media), media[:, t // 2]

    steps = (jnp.moveaxis(found, 0, 1) for found in jax.lax.map(look, jnp.concatenate([x0, latents[None]])))
    named = dict(zip(("way_latents", "way_drawn", "way"), steps, strict=True))
    return {"latents": latents, "drawn": decoded(latents)} | named


def _alarms(folder: Folder, media: np.ndarray, drawn: np.ndarray, again: np.ndarray | None) -> list[dict[str, Any]]:
    """Grids in samples and in what the codec gives back, at every period that codec and network may leave.

    Reconstructions are of the clips that they are compared with, which makes the alarm the slower to sound.
    """
    net = folder.run().denoiser.denoiser.net
    cells = net.patch[1] if isinstance(net, TransformerConfig) else 2 ** (len(net.widths) - 1)
    own = getattr(folder.codec_config(), "spatial", 1)  # of pixels: none
    pairs = [("samples", drawn, own * cells)] + ([("reconstructions", again, own)] if again is not None else [])
    if min(len(media), len(drawn)) < LEAST:
        return []
    return [
        {"of": name, **asdict(alarm), "verdict": alarm.verdict}
        for name, found, period in pairs
        for alarm in grid_alarm(found, media, [p for p in range(2, period + 1) if period % p == 0])
    ]
