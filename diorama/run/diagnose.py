"""Looking at a run's codec: what it keeps, what that costs beside other codecs, and how easily latents are modelled.

Everything that needs the codec is done here, and kept in `evaluation/codec.npz`; the page of `diorama codec report`
only draws. Clips are held-back ones where there are any, drawn by the run's seed.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from diorama.codec import Codec, compression, decode, encode, on_grid
from diorama.codec.bottleneck import Lookup, Rounded
from diorama.codec.loss import OwnPerceptual, Perceptual
from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.core.files import hash_file, write_aside
from diorama.evaluate import flicker, frechet_distance, ms_ssim, pixels, psnr, quantise, scales, ssim
from diorama.evaluate.latents import between, equivariance, importance
from diorama.evaluate.modelability import LINE, NET, modelability
from diorama.evaluate.rate import (
    FACTORS,
    NAMES,
    OURS,
    QUALITIES,
    Curve,
    Point,
    codec_curve,
    latent_bits,
    other_curves,
    quantised_curve,
    resized,
)
from diorama.media.recode import recode_stills, recode_videos
from diorama.process.spectrum import rapsd
from diorama.run.examples import clips, media_of, some
from diorama.run.folder import Folder
from diorama.run.latents import fingerprint
from diorama.run.look import colours, in_parts
from diorama.run.run import Bucket

FORMAT = 4  # of codec.npz: another number means looking again
CLIPS = {1: 96, 2: 24}  # stills and videos that are measured
LEAST = 8  # held-back clips; where there are fewer, training clips are looked at
TRAIN = 512  # training clips whose latents are modelled
SHOWN = 8
STEP = 0.25  # to which latents are rounded where the codec is shown at equal bits
FEATURES = pixels(8)
FRAMES = 16  # that a perceptual network sees at once
TRUNKS = {"alexnet": "AlexNet", "vgg16": "VGG16"}


@dataclass(frozen=True)
class Diagnosis:
    """What was seen of one kind of clips. `about` is JSON; `arrays` are clips uint8 (n, t, h, w, 3) and curves."""

    about: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def curves(self) -> list[Curve]:
        """Rate and distortion, ours first."""
        return [Curve(c["name"], tuple(Point(**p) for p in c["points"])) for c in self.about["curves"]]


@dataclass(frozen=True)
class PerceptualDistance:
    """A perceptual distance of clips. term: has the `distance` of `LPIPS`. key: of its weights' content."""

    name: str
    term: Any
    key: str

    def __call__(self, media: np.ndarray, again: np.ndarray) -> np.ndarray:
        """Clips uint8 (n, t, h, w, 3), twice -> (n,): the mean over frames; 0 = equal."""
        frames = [x.reshape(-1, 1, *x.shape[2:]) for x in (media, again)]
        return in_parts(partial(_distance, self.term), FRAMES, *frames).reshape(media.shape[:2]).mean(1)


@jax.jit
def _distance(term: Any, a: Array, b: Array) -> Array:
    return term.distance(a / 127.5 - 1, b / 127.5 - 1)


def lpips(weights: Path, heads: Path | None = None) -> Perceptual:
    """LPIPS with weights from files as `Perceptual` reads them, of AlexNet where the first kernels have its 11 pixels a
    side, else of VGG16. Raises `UserError` where `weights` cannot be read; whether they fit, `init` sees."""
    try:
        with safe_open(weights, "np") as file:
            first = [name for name in file.keys() if re.search(r"\.0\.weight$", name)]  # noqa: SIM118
            sides = {file.get_slice(name).get_shape()[-1] for name in first}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{weights} cannot be read as safetensors: {error}") from None
    return Perceptual(str(weights), str(heads or ""), "alexnet" if 11 in sides else "vgg16")


def perceptual_distance(folder: Folder, given: Perceptual | None = None) -> PerceptualDistance | None:
    """The LPIPS that is given; else the distance that the run's own perceptual network sees, where it has one.

    Raises `UserError` where weights do not fit.
    """
    own, network = folder.path / "perceptual.safetensors", folder.run().codec.loss.own
    if given is not None:
        key = " ".join(hash_file(path) for path in (given.weights, given.heads) if path)
        return PerceptualDistance(f"LPIPS ({TRUNKS[given.trunk]})", given.init(), key)
    if network is not None and own.exists():
        return PerceptualDistance("own perceptual distance", OwnPerceptual(network).init(own), hash_file(own))
    return None


def diagnose(folder: Folder, given: Perceptual | None = None) -> list[Diagnosis]:
    """One for the first kind of stills and one for the first kind of videos that the run has; computed once, and again
    when the codec, the data or the weights of `perceptual_distance` change.

    Raises `UserError` where the run has no codec of its own, or is not trained, or its catalogue is gone, and where
    weights do not fit.
    """
    codec = folder.codec()
    if not isinstance(codec, Codec):
        raise UserError(f"{folder.path} works on pixels: it has no codec to report on")
    path = folder.path / "evaluation" / "codec.npz"
    distance = perceptual_distance(folder, given)
    catalogue = folder.manifest.read_text().splitlines()[1]  # its hash
    key = f"{FORMAT} {fingerprint(folder)} {catalogue} {f'{distance.name} {distance.key}' if distance else ''}"
    if path.exists():
        with np.load(path) as file:
            kept = json.loads(str(file["about"]))
            if kept["key"] == key:
                return [Diagnosis(about, {name.split("/", 1)[1]: file[name] for name in file.files if
                        name.startswith(f"{about['bucket']}/")}) for about in kept["seen"]]  # fmt: skip
    seen = [_seen(folder, codec, bucket, distance) for bucket in _buckets(folder)]
    if not seen:
        raise UserError(f"{folder.catalogue().path} has no clips of the run's sizes: nothing to report on")
    arrays = {f"{one.about['bucket']}/{name}": array for one in seen for name, array in one.arrays.items()}
    path.parent.mkdir(exist_ok=True)
    with write_aside(path) as aside:
        about = json.dumps({"key": key, "seen": [one.about for one in seen]})
        np.savez_compressed(aside, about=np.array(about), **arrays)  # type: ignore[arg-type]
    return seen


def _buckets(folder: Folder) -> list[Bucket]:
    """The first of stills and the first of videos that have training clips."""
    catalogue, found = folder.catalogue(), {}
    for bucket in folder.run().denoiser.buckets:
        if (bucket.frames > 1) not in found and clips(catalogue, bucket, "train"):
            found[bucket.frames > 1] = bucket
    return [found[kind] for kind in sorted(found)]


def _seen(folder: Folder, codec: Codec, bucket: Bucket, distance: PerceptualDistance | None) -> Diagnosis:
    run, catalogue = folder.run(), folder.catalogue()
    train, held = clips(catalogue, bucket, "train"), clips(catalogue, bucket, "test")
    assert train is not None
    held = held if held and len(held) >= LEAST else None
    shown = held or train
    media = _whole_cells(codec, media_of(shown, some(len(shown), CLIPS[min(bucket.frames, 2)], run.seed)))
    if len(media) < 4:
        raise UserError(f"the catalogue has {len(media)} clips of {bucket}: a report on a codec wants at least 4")
    scales(*media.shape[2:4])  # are they large enough?
    there, back = _coder(codec, bucket)
    latents = there(media)
    again = back(latents)
    numbers = int(np.prod(latents.shape[1:]))
    learned = there(_whole_cells(codec, media_of(train, some(len(train), TRAIN, run.seed))))
    grid = on_grid(codec.config)
    small = modelability(learned, latents, seed=run.seed, net=NET if grid else LINE) if held else None
    levels = _levels(codec, latents)
    ours = codec_curve(media, latents, back) if levels is None else quantised_curve(media, again, levels)
    curves = [ours, *other_curves(media)]
    if levels is None:
        rounded = np.rint(latents / STEP).astype(np.int64)
        coarse, bits = back((rounded * STEP).astype(np.float32)), latent_bits(rounded)
    else:
        coarse, bits = again, latent_bits(levels)
    equal, pictures = _at_equal_bits(media, coarse, bits, numbers, distance)
    data, decoded, middle, *halves = map(
        FEATURES.moments, (media, again, back(between(latents)), media[::2], media[1::2])
    )
    about = {
        "bucket": str(bucket), "n": len(media), "seed": run.seed, "held_back": held is not None,
        "latents": list(latents.shape[1:]), "compression": compression(codec, *media.shape[1:4]),
        "scores": {
            **_measures(media, again, distance),
            f"rFID ({FEATURES.name})": frechet_distance(data, decoded),
            f"iFID ({FEATURES.name})": frechet_distance(data, middle),
            f"one half of the clips to the other ({FEATURES.name})": frechet_distance(*halves),
            **({"modelability (loss / blind loss)": small.ratio} if small else {}),
        },
        "modelability": asdict(small) if small else None,
        "perceptual": distance.name if distance else None,
        "equivariance": equivariance(media, latents, there, back) if grid else None,
        "importance": importance(media, again, latents, back).tolist(),
        "deviation": latents.std((0, 1, 2, 3)).tolist(),
        "curves": [asdict(curve) for curve in curves],
        "quantised": levels is not None,
        "equal": equal,
    }  # fmt: skip
    arrays = {name: clip[:SHOWN] for name, clip in pictures.items()}
    arrays |= {"media": media[:SHOWN], "again": again[:SHOWN], "colours": colours(latents)[:SHOWN]}
    spectra = {"data": media / np.float32(127.5) - 1, "again": again / np.float32(127.5) - 1, "latents": latents}
    powers = {f"spectrum_{name}": np.asarray(rapsd(x).mean((0, 1, 3))) for name, x in spectra.items()}
    return Diagnosis(json.loads(json.dumps(about)), arrays | powers)  # as it is when read back


def _whole_cells(codec: Codec, media: np.ndarray) -> np.ndarray:
    """Clips without what would be filled up by repetition: no codec is to be judged by that."""
    _, t, h, w, _ = media.shape
    temporal, spatial = codec.config.temporal, codec.config.spatial
    if not on_grid(codec.config):  # it takes one size alone
        spatial = 1
    return media[:, : 1 + (t - 1) // temporal * temporal, : h // spatial * spatial, : w // spatial * spatial]


def _coder(codec: Codec, bucket: Bucket) -> tuple[Callable, Callable]:
    """Clips to latents and back, for any number and size of them, in batches of one size; back to the bucket's size at
    most, where edges were filled up."""

    def there(media: np.ndarray) -> np.ndarray:
        return in_parts(lambda x: encode(codec, x), bucket.batch, media / np.float32(127.5) - 1)

    def back(latents: np.ndarray) -> np.ndarray:
        media = in_parts(partial(decode, codec), bucket.batch, np.asarray(latents, np.float32))
        return quantise(media[:, : bucket.frames, : bucket.height, : bucket.width])

    return there, back


def _measures(media: np.ndarray, again: np.ndarray, distance: PerceptualDistance | None) -> dict[str, float]:
    """How near clips are to what became of them; means over clips."""
    count = scales(*media.shape[2:4])
    found: dict[str, Callable] = {
        "PSNR (dB)": psnr,
        "SSIM": ssim,
        f"MS-SSIM ({count} scale{'s' * (count > 1)})": ms_ssim,
    }
    found |= {"flicker (grey levels)": flicker} if media.shape[1] > 1 else {}
    found |= {distance.name: distance} if distance else {}
    return {name: float(measure(media, again).mean()) for name, measure in found.items()}


def _levels(codec: Codec, latents: np.ndarray) -> np.ndarray | None:
    """The integers (n, t, h, w, k) that quantised latents are; None where latents are real numbers."""
    bottleneck = getattr(codec.autoencoder, "bottleneck", None)
    if not isinstance(bottleneck, Rounded | Lookup):
        return None
    return np.asarray(bottleneck.number(codec.restore(jnp.asarray(latents)))).reshape(*latents.shape[:4], -1)


def _at_equal_bits(
    media: np.ndarray, ours: np.ndarray, bits: float, numbers: int, distance: PerceptualDistance | None
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Ours, which took so many bits, other codecs at the quality whose size is nearest, and plain resizing."""
    found = {OURS: (ours, bits)}
    if media.shape[1] == 1:
        for form in QUALITIES:
            again, size = _nearest(partial(recode_stills, media[:, 0], form), bits, range(1, 100))
            found[NAMES[form]] = again[:, None], size
    else:
        for coder in FACTORS:
            found[NAMES[coder]] = _nearest(partial(recode_videos, media, coder), bits, range(51, 0, -1))
    found["resized"] = resized(media, numbers), np.nan
    area = int(np.prod(media.shape[:-1]))
    table = [{"name": name, "bits": None if np.isnan(size) else size / area,
              "measures": _measures(media, again, distance)}
             for name, (again, size) in found.items()]  # fmt: skip
    return table, {f"equal_{name}": again for name, (again, _) in found.items()}


def _nearest(code: Callable, bits: float, qualities: range) -> tuple[np.ndarray, int]:
    """What `code` makes at the quality whose size is nearest to `bits`; sizes grow along `qualities`."""
    low, high = 0, len(qualities) - 1
    tried = {k: code(qualities[k]) for k in (low, high)}
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = code(qualities[middle])
        low, high = (middle, high) if tried[middle][1] < bits else (low, middle)
    return min((tried[k] for k in (low, high)), key=lambda found: abs(found[1] - bits))
