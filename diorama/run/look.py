"""Looking at a run: the pictures and curves of its report, computed once and kept in `evaluation/look.npz`.

Everything that needs the models or the catalogue is done here, each kind of thing by one compiled function; the
report only draws. The clips are drawn from the held-back ones (and the training ones) by the run's seed, so two runs
of one seed on one catalogue are looked at through the same clips, noise and prompts.
"""

import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec import Codec, PixelCodec, compression
from diorama.core.array import Array
from diorama.core.files import hash_file, write_aside
from diorama.core.machine import machine
from diorama.core.module import count
from diorama.core.random import stream
from diorama.data import Catalogue, ClipSource
from diorama.diffusion import Denoiser, Denoising
from diorama.evaluate import psnr, quantise, ssim
from diorama.net import LabelConfig, TextConfig
from diorama.process import Process
from diorama.process.spectrum import rapsd
from diorama.process.weighting import X0, effective
from diorama.run.against import guided
from diorama.run.evaluate import fingerprint, neighbours_path, samples_path
from diorama.run.examples import clips, conditions, media_of, some, sources
from diorama.run.folder import Folder
from diorama.run.generate import bucket_for
from diorama.run.resolution import signals_of
from diorama.run.run import Bucket, Run, Sampling
from diorama.sample import plan, sample

FORMAT = 4  # of look.npz: another number means looking again
CLIPS = 32  # held-back clips, and training clips, that are measured
SHOWN = 8  # of them, beside their reconstructions
SHEET = 24  # clips in a contact sheet
STRATA = 16  # noise times at which the loss is measured
LEVELS = 97  # of logsnr from -12 to 12, at which the effective weight is drawn
PROMPTS = 6  # rows of the grid of samples
DRAWN = PROMPTS + 16  # samples at the run's own guidance
NEIGHBOURS = 8  # samples nearest to a training clip


@dataclass(frozen=True)
class Look:
    """What was seen: counts, settings and captions in `about`; clips uint8 (n, t, h, w, 3) and curves in `arrays`."""

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]


def look(folder: Folder) -> Look:
    """What there is to see of a trained run; computed once, and again when its settings, parameters or data change.

    Raises `UserError` when the run is not trained or its catalogue is gone.
    """
    seen, (about, arrays) = _kept(folder), _evaluated(folder)
    return Look(seen.about | {"evaluated": about}, seen.arrays | arrays)


def _kept(folder: Folder) -> Look:
    """What does not depend on evaluation: read from `look.npz`, or computed and written there."""
    path, inputs = folder.scores.with_name("look.npz"), _inputs(folder)
    if path.exists():
        with np.load(path) as file:
            about = json.loads(str(file["about"]))
            if about["inputs"] == inputs:
                return Look(about, {name: file[name] for name in file.files if name != "about"})
    seen = _look(folder, inputs)
    with write_aside(path) as aside:
        np.savez_compressed(aside, about=np.array(json.dumps(seen.about)), **seen.arrays)  # type: ignore[arg-type]
    return seen


def _inputs(folder: Folder) -> dict[str, Any]:
    """What a look depends on, by content."""
    files = [folder.config, *folder.drawn_by(folder.written().sampling)]
    catalogue = folder.manifest.read_text().splitlines()[1]
    named = {path.name if path.parent == folder.path else "against": hash_file(path) for path in files}
    return {"format": FORMAT, "catalogue": catalogue} | named


def _look(folder: Folder, inputs: dict[str, Any]) -> Look:
    run, catalogue, codec, denoiser = folder.run(), folder.catalogue(), folder.codec(), folder.denoiser()
    found = dict(sources(catalogue, run.denoiser.buckets))
    bucket = bucket_for(replace(run, denoiser=replace(run.denoiser, buckets=tuple(found))))
    held, train = clips(catalogue, bucket, "test"), found[bucket]
    held_back, held = held is not None, held or train

    shown = {b: some(len(s), SHEET if b == bucket else SHEET // 3, run.seed) for b, s in found.items()}
    sheets = {f"train{i}": media_of(s, shown[b]) for i, (b, s) in enumerate(found.items())}
    captions = {str(b): _names(s, shown[b].tolist()) for b, s in found.items()}
    chosen = [(s, some(len(s), CLIPS, run.seed)) for s in (held, train)]
    seen, pictures = _reconstructions(codec, bucket, *(media_of(s, rows) for s, rows in chosen))
    about = {
        "inputs": inputs,
        "bucket": str(bucket),
        "data": _data(catalogue) | {"captions": captions},
        "held_back": held_back,
        "trained": len({source.row(i)["id"] for source in found.values() for i in range(len(source))}),
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("diorama", "jax", "numpy")},
        "parameters": {"codec": count(codec), "denoiser": count(denoiser)},
    }
    lows = [signals_of(run, codec, bucket, media_of(s, rows)) for s, rows in chosen]
    examples = (
        (latents, s.ids[rows], conditions(run, folder, [s.captions[i] for i in rows], s.labels[rows]) | low)
        for latents, (s, rows), low in zip((seen["held"], seen["train"]), chosen, lows, strict=True)
    )
    curves = _loss(run, denoiser, bucket, *examples)
    grid, samples = _samples(run, folder, codec, denoiser, bucket, held)
    about |= {"codec": pictures.pop("about"), "samples": grid}
    return Look(about, sheets | pictures | curves | samples)


def _names(source: ClipSource, rows: Iterable[int]) -> list[str]:
    """What to call each example: its caption, or its class."""
    captions, labels = source.captions, source.labels.tolist()
    return [
        captions[i] or source.row(i)["class_name"] or (f"class {labels[i]}" if labels[i] >= 0 else "") for i in rows
    ]


def _data(catalogue: Catalogue) -> dict[str, Any]:
    """Counts of a catalogue."""

    def rows(question: str) -> list[list[Any]]:
        return [list(row.values()) for row in catalogue.ask(question).to_pylist()]

    summary = catalogue.summary()
    return {
        "name": catalogue.path.name,
        "hash": catalogue.hash(),
        "clips": summary.clips,
        "kinds": summary.kinds,
        "splits": summary.splits,
        "decisions": rows(
            "select verdict, reason, count(*) as n from decisions group by all order by verdict desc, n desc, reason"
        ),
        "sizes": rows("select kind, t, h, w, count(*) as n from clips group by all order by n desc limit 6"),
        "distinct_captions": rows("select count(distinct caption) from clips")[0][0],
        "classes": rows("select class_name, count(*) as n from clips where class_name is not null "
                        "group by all order by n desc, class_name limit 24"),
    }  # fmt: skip


def in_parts(function: Callable[..., Any], size: int, *arrays: Any) -> Any:
    """`function` over any number of examples, `size` at a time: one compiled shape, filled up with the last example."""
    n = len(jax.tree.leaves(arrays)[0])
    parts = []
    for start in range(0, n, size):
        take = np.minimum(np.arange(start, start + size), n - 1)
        out = function(*jax.tree.map(lambda a: np.asarray(a)[take], arrays))  # noqa: B023
        parts.append(jax.tree.map(lambda x: np.asarray(x)[: n - start], out))  # noqa: B023
    return jax.tree.map(lambda *xs: np.concatenate(xs), *parts)


def _spectrum(x: Array) -> Array:
    """Radially averaged power of each example, a mean over frames and channels; (b, t, h, w, c) -> (b, k)."""
    return rapsd(x).mean((1, 3))


@jax.jit
def _there_and_back(codec: Codec | PixelCodec, media: Array) -> dict[str, Array]:
    latents = codec.encode(media)
    again = codec.decode(latents)[:, : media.shape[1], : media.shape[2], : media.shape[3]]
    return {"latents": latents, "again": again, "spectrum_data": _spectrum(media),
            "spectrum_again": _spectrum(again), "spectrum_latents": _spectrum(latents)}  # fmt: skip


def _reconstructions(
    codec: Codec | PixelCodec, bucket: Bucket, media: np.ndarray, training: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The latents of held-back and training clips; and held-back clips beside what the codec makes of them."""
    size = min(CLIPS, bucket.batch)
    out, other = (in_parts(partial(_there_and_back, codec), size, m / np.float32(127.5) - 1) for m in (media, training))
    again = quantise(out["again"])
    shape = (bucket.frames, bucket.height, bucket.width)
    about = {"n": len(media), "psnr": float(psnr(media, again).mean()), "ssim": float(ssim(media, again).mean()),
             "compression": compression(codec, *shape), "latents": list(codec.latent_shape(*shape))}  # fmt: skip
    pictures = {"held": media[:SHOWN], "again": again[:SHOWN], "colours": colours(out["latents"])[:SHOWN]}
    spectra = {name: out[name].mean(0) for name in ("spectrum_data", "spectrum_again", "spectrum_latents")}
    return {"held": out["latents"], "train": other["latents"]}, pictures | spectra | {"about": about}


def colours(latents: np.ndarray) -> np.ndarray:
    """Latents (n, t, h, w, c) as their three strongest principal components in red, green and blue; uint8.

    Grey is the mean, and a component runs over the full range within two standard deviations of it.
    """
    flat = latents.reshape(-1, latents.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(0)
    _, axes = np.linalg.eigh(flat.T @ flat)
    parts = flat @ axes[:, ::-1][:, :3]
    parts /= np.maximum(parts.std(0), 1e-9)
    parts = np.pad(parts, ((0, 0), (0, 3 - parts.shape[1])))
    return quantise(parts / 2).reshape(*latents.shape[:-1], 3)


@partial(jax.jit, static_argnames="objective")
def _errors(denoiser: Denoiser, taus: Array, x0: Array, ids: Array, batch: dict, objective: Denoising) -> Array:
    """The error of x0 of each example at each of `taus`, with the same noise at all of them; (b, strata)."""
    epsilon = denoiser.process.noise.draw(stream(0, "look/noise"), ids, x0.shape[1:])
    signals = denoiser.conditions.signals(batch)

    def at(tau: Array) -> Array:
        return objective.at(denoiser, x0, epsilon, jnp.full(x0.shape[:2], tau), signals)

    return jax.lax.map(at, taus).T


def _loss(run: Run, denoiser: Denoiser, bucket: Bucket, held: tuple, train: tuple) -> dict[str, np.ndarray]:
    """Loss and error of x0 by noise time, on held-back and on training clips `(latents, ids, conditions)`."""
    process, objective = denoiser.process.of(held[0].shape[1:]), run.denoiser.objective
    taus = (jnp.arange(STRATA) + 0.5) / STRATA
    error = partial(_errors, denoiser, taus, objective=replace(objective, weighting=X0()))
    size = min(CLIPS, bucket.batch)
    weight = np.asarray(objective.weighting(process, taus) / X0()(process, taus))
    out = {"taus": np.asarray(taus), "density": np.asarray(objective.density.pdf(process, taus))}
    for name, examples in (("held", held), ("train", train)):
        x0 = in_parts(error, size, *examples)
        out |= {f"x0_{name}": x0.mean(0), f"loss_{name}": (x0 * weight).mean(0),
                f"spread_{name}": (x0 * weight).std(0) / np.sqrt(len(x0))}  # fmt: skip
    at = process.at(taus, 1)
    variance = float(held[0].reshape(-1, held[0].shape[-1]).var(0).mean())
    out["x0_blind"] = np.asarray(variance * at.sigma**2 / (at.alpha**2 * variance + at.sigma**2))
    return out | {"loss_blind": out["x0_blind"] * weight} | _effective(denoiser, process, objective)


def _effective(denoiser: Denoiser, process: Process, objective: Denoising) -> dict[str, np.ndarray]:
    """The effective weight of the run by logsnr, with what it learned of its uncertainty; 0 where it never looks."""
    taus = process.tau_of_logsnr(jnp.linspace(-12.0, 12.0, LEVELS))
    taus = taus[(taus > 0) & (taus < 1)]
    weight = effective(process, objective.weighting, objective.density, taus)
    logsnr = process.logsnr(taus)
    if denoiser.uncertainty is not None:
        weight = weight * jnp.exp(-denoiser.uncertainty(logsnr))
    return {"logsnr": np.asarray(logsnr), "effective": np.nan_to_num(np.asarray(weight), posinf=0.0)}


@partial(jax.jit, static_argnames=("how", "taus", "shape", "seed"))
def _draw(
    codec: Codec | PixelCodec, denoiser: Denoiser, weak: Denoiser | None, ids: Array, batch: dict, scale: Array,
    how: Sampling, taus: tuple[float, ...], shape: tuple[int, ...], seed: int,
) -> dict[str, Array]:  # fmt: skip
    """As `Generator.draw`, with a guidance scale for each example, so that one compilation serves all scales."""
    denoises, signals = guided(how, denoiser, weak, denoiser.conditions.signals(batch), len(ids), scale)
    matrix = plan.joint(np.array(taus), shape[0])
    latents = sample(denoises, denoiser.process, how.solver, matrix, ids, shape, seed=seed, conditions=signals)
    media = codec.decode(latents)
    return {"media": media, "spectrum_drawn": _spectrum(media), "spectrum_drawn_latents": _spectrum(latents)}


def _samples(
    run: Run, folder: Folder, codec: Codec | PixelCodec, denoiser: Denoiser, bucket: Bucket, held: ClipSource
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Prompts of held-back clips, drawn at several guidances with the same noise in every column of the grid."""
    how, rows = run.sampling, _distinct(run, held, DRAWN)
    own = float(how.guidance.scale)
    scales = sorted({1.0, own, 4.0 if own != 4 else 2.0}) if run.denoiser.denoiser.conditions else [own]
    jobs = [(i, own) for i in range(len(rows))] + [(i, s) for s in scales if s != own for i in range(PROMPTS)]
    which, captions = np.array([i for i, _ in jobs]), held.captions
    batch = conditions(run, folder, [captions[i] for i in rows[which]], held.labels[rows[which]])
    if run.denoiser.denoiser.low:
        batch |= signals_of(run, codec, bucket, media_of(held, rows[which]), which)
    shape = codec.latent_shape(bucket.frames, bucket.height, bucket.width)
    taus = tuple(how.taus(denoiser.process.of(shape)).tolist())
    draw = partial(_draw, codec, denoiser, how.against.load(folder), how=how, taus=taus, shape=shape, seed=run.seed)
    out = in_parts(lambda ids, batch, scale: draw(ids, batch, scale), min(how.batch, len(jobs)),
                    which.astype(np.uint32), batch, np.array([s for _, s in jobs], np.float32))  # fmt: skip
    media = quantise(out["media"][:, : bucket.frames, : bucket.height, : bucket.width])
    columns = [media[[jobs.index((i, s)) for i in range(PROMPTS)]] for s in scales]
    about = {"scales": scales, "own": own, "prompts": _names(held, rows.tolist()), "seed": run.seed, "rate": how.rate}
    spectra = {name: out[name][: len(rows)].mean(0) for name in ("spectrum_drawn", "spectrum_drawn_latents")}
    return about, {"grid": np.stack(columns, 1), "drawn": media[PROMPTS : len(rows)]} | spectra


def _distinct(run: Run, source: ClipSource, n: int) -> np.ndarray:
    """Rows of `n` examples: those first that ask for something new, then the others, over again if there are few."""
    kinds = {type(c) for c in run.denoiser.denoiser.conditions.values()}
    captions = source.captions if TextConfig in kinds else [""] * len(source)
    labels = source.labels.tolist() if LabelConfig in kinds else [-1] * len(source)
    first: dict[tuple[str, int], int] = {}
    for i, asked in enumerate(zip(captions, labels, strict=True)):
        first.setdefault(asked, i)
    rest = sorted(set(range(len(source))) - set(first.values()))
    return np.resize([*first.values(), *rest][:n], n)


def _evaluated(folder: Folder) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Of the buckets that `diorama evaluate` drew samples of: the first ones, and those nearest to a training clip."""
    about: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    catalogue, run, key = folder.catalogue(), folder.run(), fingerprint(folder)
    for bucket in run.denoiser.buckets:
        drawn, near = samples_path(folder, bucket), neighbours_path(folder, bucket)
        train, test = clips(catalogue, bucket, "train"), clips(catalogue, bucket, "test")
        if not (drawn.exists() and near.exists() and train and test):
            continue
        with np.load(drawn) as file, np.load(near) as neighbours:
            if not str(file["key"]) == str(neighbours["key"]) == key:
                continue
            media, distance, threshold = file["media"], neighbours["distance"], float(neighbours["threshold"])
            order = np.argsort(distance, kind="stable")[:NEIGHBOURS]
            seen, held = int(neighbours["train"]), int(neighbours["test"])
            index = some(len(train), seen, run.seed)[neighbours["index"][order]].tolist()
        prompts = _names(test, some(len(test), held, run.seed)[: len(media)].tolist())
        i, sheet = len(about), some(len(media), SHEET, run.seed)
        about.append({
            "bucket": str(bucket), "n": len(media), "prompts": [prompts[j] for j in sheet],
            "captions": _names(train, index),
            "distance": distance[order].tolist(), "threshold": threshold, "asked": [prompts[j] for j in order],
            "searched": seen, "searchable": len(train),
        })  # fmt: skip
        arrays |= {f"sampled{i}": media[sheet], f"near_sample{i}": media[order],
                   f"near_train{i}": np.stack([train[j]["media"] for j in index])}  # fmt: skip
    return about, arrays
