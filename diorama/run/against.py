"""What guidance leads away from: the model without its conditions, a worse model, or this one disturbed."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.errors import UserError
from diorama.diffusion import Denoiser
from diorama.diffusion.align import denoiser_of
from diorama.net import Perturbed
from diorama.net.condition import Signals
from diorama.process import as_process
from diorama.sample.guidance import Denoiser as Denoises
from diorama.train.load import reconstruct

if TYPE_CHECKING:
    from diorama.run.folder import Folder
    from diorama.run.run import Sampling


@dataclass(frozen=True)
class Null:
    """The model without conditions (classifier-free guidance). A model that takes none is not guided."""

    def load(self, folder: "Folder") -> Denoiser | None:
        """The other model's arrays, where there is one."""
        return None

    def __call__(self, denoiser: Denoiser, signals: Signals, weak: Denoiser | None, b: int) -> tuple[Any, Any]:
        """The conditions to ask with, and the reference of a `Guidance`; None where there is nothing to compare."""
        return signals, denoiser.conditions.silent(signals)


@dataclass(frozen=True)
class PerturbedAttention:
    """The model with identity in place of some self-attention (Ahn et al. 2024, arXiv 2403.17377).

    Args:
        layers: which ones, counted from 0; the middle one if none is named. A U-Net has one.
    """

    layers: tuple[int, ...] = ()

    def load(self, folder: "Folder") -> Denoiser | None:
        return None

    def __call__(self, denoiser: Denoiser, signals: Signals, weak: Denoiser | None, b: int) -> tuple[Any, Any]:
        count = denoiser.net.attentions
        layers = self.layers or (count // 2,)
        if not set(layers) <= set(range(count)):
            raise UserError(f"sampling.against.layers={layers} names other layers of attention than 0 to {count - 1}")
        none = jnp.zeros((b, count), bool)
        return Perturbed(signals, none), Perturbed(signals, none.at[:, jnp.asarray(layers)].set(True))


@dataclass(frozen=True)
class Weaker:
    """A worse model with the same conditions (autoguidance, Karras et al. 2024, arXiv 2406.02507).

    Args:
        path: the folder of a smaller or less trained run on the same codec and captions; "" is this run itself.
        examples: as it was after so many training examples; None is as it is. Takes `train.snapshot_every`.
        std: the relative width of the average of weights at that time.
    """

    path: str = ""
    examples: int | None = None
    std: float = 0.1

    def load(self, folder: "Folder") -> Denoiser | None:
        from diorama.run.features import learned  # here, because they hold a run, and that holds one of these
        from diorama.run.folder import Folder

        if not self.path and self.examples is None:
            raise UserError("sampling.against names no worse model: give the path of a run, or examples")
        other = Folder.open(self.path) if self.path else folder
        _alike(other, folder)
        if self.examples is None:
            return other.denoiser()
        init, _ = learned(other.run(), other)
        return denoiser_of(reconstruct(other.path / "denoiser", init, self.std, self.examples))

    def __call__(self, denoiser: Denoiser, signals: Signals, weak: Denoiser | None, b: int) -> tuple[Any, Any]:
        return signals, weak and as_process(weak, weak.process, denoiser.process)


def _alike(other: "Folder", folder: "Folder") -> None:
    """Raises `UserError` where two runs do not speak of the same latents with the same words."""

    def read(path: Path) -> bytes:
        return path.read_bytes() if path.exists() else b""

    if other.run().denoiser.denoiser.conditions != folder.run().denoiser.denoiser.conditions:
        raise UserError(f"{other.path} takes other conditions than {folder.path}: it cannot guide it")
    for name, what in (("tokenizer.json", "captions"), ("codec.safetensors", "codec")):
        if read(other.path / name) != read(folder.path / name):
            raise UserError(f"{other.path} has another {name} than {folder.path}: train both on the same {what}")


def guided(
    how: "Sampling", denoiser: Denoiser, weak: Denoiser | None, signals: Signals, b: int, scale: Array | None = None
) -> tuple[Denoises, Any]:
    """The denoiser that `how` says, and the conditions to call it with, for batches of `b` examples.

    `weak` is what `how.against.load` gave; `scale` (b,) takes the place of the guidance's own.
    """
    conditions, reference = how.against(denoiser, signals, weak, b)
    if reference is None:
        return denoiser, conditions
    rule = how.guidance if scale is None else how.guidance.scaled(scale)
    return rule(denoiser, denoiser.process, reference), conditions
