"""Features of what is where in clips, by frozen encoders of pictures: (b, t, h, w, 3) -> (b, t, i, j, d).

What is trained elsewhere may learn to say the same (`diorama.diffusion.align`). What encoders are made of is imported
when one is made: a recipe only names them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Float, Media
from diorama.core.errors import UserError
from diorama.core.files import hash_bytes, hash_file
from diorama.core.module import Module, static
from diorama.core.release import load, save
from diorama.media.resize import scale
from diorama.net.features import at_grid, folded

if TYPE_CHECKING:
    from diorama.data.embed.patches import Encoder
    from diorama.data.embed.vit import VisionTransformer

LEAST = 64  # pictures to learn from


class Places(Module):
    """An encoder of pictures on the frames of clips. They are scaled to `side` x `side`, their aspect given up, so that
    the grid of features covers the whole frame; then (value in [0, 1] - mean) / std goes into the encoder."""

    encoder: "Encoder | VisionTransformer"
    side: int = static()
    mean: tuple[float, ...] = static(default=(0.0,) * 3)
    std: tuple[float, ...] = static(default=(1.0,) * 3)

    def __call__(self, media: Media) -> Float[Array, "b t i j d"]:
        """Features of media in [-1, 1], float32."""
        b, t, h, w, c = media.shape
        x = media.reshape(b * t, h, w, c).astype(jnp.float32)
        if (h, w) != (self.side, self.side):
            x = jax.image.resize(x, (b * t, self.side, self.side, c), "cubic")
        x = ((x + 1) / 2 - jnp.array(self.mean)) / jnp.array(self.std)
        y = self.encoder.places(x)
        return y.reshape(b, t, *y.shape[1:])


class Seeing(Module):
    """An encoder in a codec's place, so that the latent cache holds its features: time is folded as the codec folds it
    (`frames` a latent one), and they are brought to `grid` (t, h, w)."""

    encoder: Places
    frames: int = static()
    grid: tuple[int, int, int] = static()

    def encode(self, media: Media) -> Float[Array, "b t h w d"]:
        return at_grid(folded(self.encoder(media), self.frames), (len(media), *self.grid))

    def latent_shape(self, t: int, h: int, w: int) -> tuple[int, ...]:
        media = jax.ShapeDtypeStruct((1, t, h, w, 3), jnp.float32)
        return jax.eval_shape(Seeing.encode, self, media).shape[1:]


@dataclass(frozen=True)
class OwnPlaces:
    """Features by an encoder that is fitted to the run's own clips, in seconds (`embed.patches`): no weights from
    elsewhere.

    Args:
        examples: clips to learn from, at most.
        side: of the frames that it sees, in pixels; a feature then stands for 6 x 6 of them, every second one.
        filters: patches of the dictionary.
        width: numbers of a feature.
        seed: of everything random.
    """

    examples: int = 4096
    side: int = 32
    filters: int = 128
    width: int = 64
    seed: int = 0

    def made(self, path: Path, pictures: Callable[[int], np.ndarray]) -> tuple[Places, str]:
        """The encoder, kept in the file `path`, and the hash of all that its features depend on.

        `pictures(n)` gives frames (m, h, w, 3) uint8 of at most n clips. Raises `UserError` where there are too few.
        """
        from diorama.data.embed.patches import Encoder, fit

        if not path.exists():
            seen = scale(pictures(self.examples), self.side, self.side)
            if len(seen) < LEAST:
                raise UserError(f"{len(seen)} clips are too few to learn features from, {LEAST} do: add some")
            save(fit(seen, self.filters, self.width, self.seed), path)
        like = jax.eval_shape(partial(Encoder.blank, self.filters, self.width))
        return Places(load(path, like), self.side), hash_bytes(f"own {hash_file(path)} {self.side}".encode())


@dataclass(frozen=True)
class PretrainedPlaces:
    """Features by the encoder in `folder`, a CLIP, SigLIP or DINOv2 as Hugging Face has it (see `embed.Pretrained`):
    those of its last layer.

    Args:
        folder: with config.json, model.safetensors and preprocessor_config.json.
        side: of the frames that it sees, in pixels; 0 for what its preprocessor says.
    """

    folder: str
    side: int = 0

    def made(self, path: Path, pictures: Callable[[int], np.ndarray]) -> tuple[Places, str]:
        """As of `OwnPlaces`; nothing is learned. Raises `UserError` for a folder that is not of a kind known here."""
        from diorama.data.embed.preprocess import Preprocess
        from diorama.data.embed.pretrained import load_vision

        folder = Path(self.folder)
        prepare = Preprocess.read(folder / "preprocessor_config.json")
        side = self.side or prepare.shape[0]
        network: Any = load_vision(folder, side)
        told = f"{hash_file(folder / 'model.safetensors')} {side} {prepare.mean} {prepare.std}"
        return Places(network, side, prepare.mean, prepare.std), hash_bytes(f"pretrained {told}".encode())
