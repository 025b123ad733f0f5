"""A codec from a folder of diffusers: `config.json` says which autoencoder it is, safetensors files hold its arrays."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from diorama.codec.codec import latent_shape, moments, pad
from diorama.core.array import Array, Float, Latents, Media
from diorama.core.errors import UserError
from diorama.core.module import Module, static
from diorama.interop.diffusers.dc import AutoencoderDCConfig
from diorama.interop.diffusers.image import AutoencoderKLConfig
from diorama.interop.diffusers.video_cosmos import AutoencoderKLCosmosConfig
from diorama.interop.diffusers.video_ltx import AutoencoderKLLTXVideoConfig
from diorama.interop.diffusers.video_wan import AutoencoderKLWanConfig
from diorama.interop.tensors import Tensors

WEIGHTS = "diffusion_pytorch_model.safetensors"


class Config(Protocol):
    """What an architecture says of itself, and how it is built of a file's arrays."""

    @property
    def spatial(self) -> int: ...

    @property
    def temporal(self) -> int: ...

    @property
    def channels(self) -> int: ...

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


class Pretrained(Module):
    """An autoencoder of diffusers as a codec of ours: latents of about zero mean and unit variance, any media size.

    `mean` and `deviation` are those of the latents, a channel; with more rows than one, of each latent frame.
    """

    autoencoder: Any
    mean: Float[Array, "f c"]
    deviation: Float[Array, "f c"]
    config: Any = static()

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

    def measured(self, latents: Iterable[np.ndarray]) -> "Pretrained":
        """This codec with the statistics of batches of its own normalised latents: of an autoencoder that we trained.

        One row of statistics, whatever there was.
        """
        mean, deviation = moments(np.asarray(self._plain(jnp.asarray(batch))) for batch in latents)
        return Pretrained(self.autoencoder, jnp.asarray(mean)[None], jnp.asarray(deviation)[None], self.config)

    @property
    def channels(self) -> int:
        """Numbers a latent cell."""
        return self.config.channels

    def encode(self, media: Media) -> Latents:
        """The posterior's mean, normalised. Edges are repeated to whole cells and 1 + k * temporal frames."""
        mean = self.autoencoder.encode(pad(media, self.config))
        centre, spread = self._statistics(mean.shape[1])
        return (mean - centre) / spread

    def decode(self, latents: Latents) -> Media:
        """Media in [-1, 1] (clipped), of 1 + (t - 1) * temporal frames."""
        return jnp.clip(self.autoencoder.decode(self._plain(latents)), -1, 1)

    def latent_shape(self, t: int, h: int, w: int) -> tuple[int, int, int, int]:
        """The shape of the latents of media `(t, h, w)`."""
        return latent_shape(self.config, t, h, w)

    def _plain(self, latents: Latents) -> Latents:
        """Latents as the decoder takes them."""
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
    options = _options(folder / "config.json")
    name = options.get("_class_name")
    if name not in ARCHITECTURES:
        raise UserError(f"{folder / 'config.json'} is of class {name!r}; known here are {', '.join(ARCHITECTURES)}")
    try:
        config = ARCHITECTURES[name](options)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None
    tensors = Tensors.open(weights)
    autoencoder = config.build(tensors)
    own = {s: tensors.take(s, (config.channels,)) for s in ("latents_mean", "latents_std") if s in tensors.arrays}
    tensors.finish()
    return Pretrained.of(autoencoder, config, own)


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
