"""A codec from a folder of diffusers: `config.json` says which autoencoder it is, safetensors files hold its arrays."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec.codec import Codec, Factors, moments, pad
from diorama.core.array import Array, Float, Latents, Media
from diorama.core.errors import UserError
from diorama.core.files import hash_bytes, hash_file
from diorama.interop.diffusers.dc import AutoencoderDCConfig
from diorama.interop.diffusers.image import AutoencoderKLConfig
from diorama.interop.diffusers.video_cosmos import AutoencoderKLCosmosConfig
from diorama.interop.diffusers.video_ltx import AutoencoderKLLTXVideoConfig
from diorama.interop.diffusers.video_wan import AutoencoderKLWanConfig
from diorama.interop.tensors import Tensors, parts

WEIGHTS = "diffusion_pytorch_model.safetensors"


class Config(Factors, Protocol):
    """What an architecture says of itself, and how it is built of a file's arrays."""

    def build(self, tensors: Tensors) -> Any:
        """A module with `encode(media) -> mean` and `decode(latents) -> media`; notes in `tensors` what is amiss."""


# By `_class_name`: the configuration of a `config.json`, which refuses what it does not know.
ARCHITECTURES: dict[str, Callable[[Mapping[str, Any]], Config]] = {
    "AutoencoderKL": AutoencoderKLConfig.from_dict,
    "AutoencoderDC": AutoencoderDCConfig.from_dict,
    "AutoencoderKLWan": AutoencoderKLWanConfig.from_dict,
    "AutoencoderKLLTXVideo": AutoencoderKLLTXVideoConfig.from_dict,
    "AutoencoderKLCosmos": AutoencoderKLCosmosConfig.from_dict,
}


class Pretrained(Codec):
    """An autoencoder of diffusers as a codec of ours, whose statistics are those that its file tells.

    `mean` and `deviation` are those of the latents, a channel; with more rows than one, of each latent frame.
    """

    mean: Float[Array, "f c"]
    deviation: Float[Array, "f c"]

    @staticmethod
    def of(autoencoder: Any, config: Any, given: Mapping[str, Any] | None = None) -> "Pretrained":
        """`autoencoder` with the statistics that its configuration tells, or that `given` does in its place.

        Those are `scaling_factor`, `shift_factor`, `latents_mean`, `latents_std`: diffusers' normalised latents are
        (z - shift - mean) * scaling / std. Raises `UserError` where there is not one number a channel.
        """
        told = {name: getattr(config, name, None) for name in _STATISTICS} | dict(given or {})
        scaling, shift, mean, std = (told[name] for name in _STATISTICS)
        scaling, shift = 1.0 if scaling is None else scaling, 0.0 if shift is None else shift
        centre = _rows(0.0 if mean is None else mean, config.channels, "latents_mean") + shift
        spread = _rows(1.0 if std is None else std, config.channels, "latents_std")
        if not scaling > 0 or not np.all(spread > 0):
            raise UserError("scaling_factor and latents_std are positive numbers")
        return Pretrained(autoencoder, jnp.float32(centre), jnp.float32(spread / scaling), config)

    @property
    def told(self) -> bool:
        """Whether the file tells statistics; else latents are as the autoencoder makes them, of any mean and scale."""
        return bool(len(self.mean) > 1 or np.any(self.mean != 0) or np.any(self.deviation != 1))

    def measured(self, latents: Iterable[np.ndarray]) -> "Pretrained":
        """This codec with the statistics of batches of its own normalised latents, in place of those it has.

        One row of statistics, whatever there was.
        """
        mean, deviation = moments(np.asarray(self.restore(jnp.asarray(batch))) for batch in latents)
        return Pretrained(self.autoencoder, jnp.asarray(mean)[None], jnp.asarray(deviation)[None], self.config)

    def encode(self, media: Media) -> Latents:
        """The posterior's mean, normalised. Edges are repeated to whole cells and 1 + k * temporal frames."""
        return self.normalise(self.autoencoder.encode(pad(media, self.config)))

    def normalise(self, latents: Latents) -> Latents:
        """The autoencoder's latents over their statistics. Raises `UserError` for frames of which none are told."""
        centre, spread = self._statistics(latents.shape[1])
        return (latents - centre) / spread

    def restore(self, latents: Latents) -> Latents:
        """The inverse of `normalise`."""
        centre, spread = self._statistics(latents.shape[1])
        return latents * spread + centre

    def _statistics(self, frames: int) -> tuple[Array, Array]:
        rows = len(self.mean)
        if 1 < rows < frames:
            raise UserError(f"this codec tells the statistics of {rows} latent frames, not of {frames}: code fewer")
        return self.mean[:frames, None, None], self.deviation[:frames, None, None]


_STATISTICS = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")


def _rows(value: Any, channels: int, name: str) -> np.ndarray:
    """Statistics as `(rows, channels)`; the file lists them a channel, and within it a latent frame."""
    flat = np.asarray(value, np.float64).reshape(-1)
    if flat.size == 1:
        return np.broadcast_to(flat, (1, channels))
    if flat.size % channels:
        raise UserError(f"{name} has {flat.size} numbers for {channels} latent channels")
    return flat.reshape(channels, -1).T


def pretrained(path: Path | str) -> Pretrained:
    """The codec of a diffusers folder, of a pipeline's folder that has one in `vae/`, or of a safetensors file in one.

    Its numbers are float32, as the file's are or become.

    Raises:
        UserError: nothing is there, the class or an option is not known here, or the arrays are not those of the
            configuration; the sentence lists them.
    """
    folder, weights = _find(Path(path))
    where = folder / "config.json"
    config = architecture(_options(where), where)
    tensors = Tensors.open(weights)
    autoencoder = config.build(tensors)
    own = {s: tensors.take(s, (config.channels,)) for s in ("latents_mean", "latents_std") if s in tensors.arrays}
    tensors.finish()
    return Pretrained.of(autoencoder, config, own)


def architecture(options: Mapping[str, Any], where: Path) -> Config:
    """The configuration that `options` of the file `where` are. Raises `UserError` for what is not known here."""
    name = options.get("_class_name")
    if name not in ARCHITECTURES:
        raise UserError(f"{where} is of class {name!r}; known here are {', '.join(ARCHITECTURES)}")
    try:
        return ARCHITECTURES[name](options)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


@dataclass(frozen=True)
class PretrainedConfig:
    """In a recipe: the codec that `pretrained(path)` gives. There is nothing to learn.

    The statistics of its latents are those that the file tells. A file that tells none (`scaling_factor` 1, or null,
    and neither shift, mean nor deviation) gets those of the run's own latents.

    Args:
        path: a folder of diffusers, a pipeline's with one in `vae/`, or a safetensors file in one.
    """

    path: str = ""

    def load(self) -> Pretrained:
        """The codec. Raises `UserError` as `pretrained` does."""
        if not self.path:
            raise UserError("PretrainedConfig has no path: give the folder of the weights, as codec.codec.path")
        return pretrained(self.path)

    def note(self) -> dict[str, Any]:
        """Which weights those are, to be written as JSON: their `path`, the `hash` of what the files hold (config.json
        and arrays), and the `config` that is told. Raises `UserError` where they are not there."""
        folder, weights = _find(Path(self.path))
        files = [folder / "config.json", weights, *(parts(weights) if weights.suffix == ".json" else [])]
        content = hash_bytes(" ".join(map(hash_file, files)).encode())
        return {"path": str(Path(self.path).resolve()), "hash": content, "config": _options(files[0])}


def pretrained_like(config: Config) -> Pretrained:
    """The codec of that architecture as shapes without numbers, for `release.load`."""
    return jax.eval_shape(lambda: Pretrained.of(config.build(_Zeros({}, "")), config))


class _Zeros(Tensors):
    """A file that has every array it is asked for."""

    def take(self, name: str, shape: tuple[int, ...]) -> Any:
        return np.zeros(shape, np.float32)


def _find(path: Path) -> tuple[Path, Path]:
    """The folder that has `config.json`, and its arrays: a safetensors file or the index of several."""
    if path.is_file():
        return path.parent, path
    if not path.is_dir():
        raise UserError(f"{path} is not there: give a folder of diffusers, with config.json and {WEIGHTS}")
    folder = path / "vae" if (path / "vae").is_dir() and not (path / "config.json").is_file() else path
    for weights in (folder / WEIGHTS, folder / f"{WEIGHTS}.index.json"):
        if weights.is_file():
            return folder, weights
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return folder, others[0]
    if others:
        raise UserError(f"{folder} has no {WEIGHTS} but {', '.join(p.name for p in others)}: name one of these files")
    raise UserError(f"{folder} has no safetensors file; pickled weights (.bin, .ckpt) are not read: convert them first")


def _options(path: Path) -> dict[str, Any]:
    try:
        options = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}, which says what the autoencoder is, cannot be read: {error}") from None
    if not isinstance(options, dict):
        raise UserError(f"{path} is not a configuration of diffusers: it holds a {type(options).__name__}")
    return options
