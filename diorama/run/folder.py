"""A run's folder: where each step finds what the one before left.

config.txt                     the resolved run
catalogue.txt                  path, content hash and version of the catalogue that was seen
tokenizer.json                 learned from the captions
perceptual/                    the run's own perceptual network, where the codec's loss asks for one
codec/  denoiser/              training: checkpoints, log.jsonl, TensorBoard, previews
codec.json                     of a codec that another project or run trained: which one, and its configuration
codec.safetensors              the codec with its latents' statistics
denoiser.safetensors           the denoiser's average: with config.txt, tokenizer.json and codec.*, this is the release
latents/                       where the latents of each bucket lie, and their spectrum; of a run on pixels, themselves
samples/  evaluation/          what was drawn, what was measured
report.html
"""

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diorama.codec import Codec, PixelCodec, PixelCodecConfig
from diorama.core import release
from diorama.core.config import flatten, parse, to_text
from diorama.core.errors import UserError
from diorama.core.files import write_text
from diorama.data import Catalogue
from diorama.diffusion import Denoiser
from diorama.interop.diffusers.pretrained import architecture, pretrained_like
from diorama.net import TextConfig, text
from diorama.process import density
from diorama.run.against import Weaker
from diorama.run.run import Learned, Run, Sampling, Taken
from diorama.sample import grid

CASCADE = "cascade.txt"
"""What says of a folder that the runs in it are the stages of a cascade (`run.cascade`)."""


@dataclass(frozen=True)
class Folder:
    """Paths of a run, and what lies there."""

    path: Path

    @staticmethod
    def claim(path: Path | str, run: Run, catalogue: Catalogue) -> "Folder":
        """The folder for `run` on `catalogue`: made if new, gone on with if it holds the same.

        Raises `UserError` when it holds another run or was trained on other data.
        """
        folder = Folder(Path(path))
        seen = f"{catalogue.path.resolve()}\n{catalogue.hash()}\n{catalogue.version}\n"
        if folder.config.exists():
            _same(flatten(folder.written()), flatten(parse(run.text(), Run)), folder.path)  # as read: 1 is 1.0
            if folder.manifest.read_text().splitlines()[1] != catalogue.hash():
                raise UserError(f"{folder.path} was trained on other data than {catalogue.path} holds now: use --out")
        folder.path.mkdir(parents=True, exist_ok=True)
        write_text(folder.manifest, seen)
        write_text(folder.config, run.text())
        return folder

    @staticmethod
    def open(path: Path | str) -> "Folder":
        """The folder of a run that exists. Raises `UserError` when it is none."""
        folder = Folder(Path(path))
        if not folder.config.exists():
            raise UserError(f"{path} is not a run: it has no config.txt; name the folder that `diorama train` wrote")
        return folder

    def called(self, what: str) -> str:
        """A part of the run in bars and messages: "denoiser"; in the stage `base` of a cascade "base denoiser"."""
        path = self.path.resolve()
        return f"{path.name} {what}" if (path.parent / CASCADE).exists() else what

    @property
    def config(self) -> Path:
        return self.path / "config.txt"

    @property
    def manifest(self) -> Path:
        return self.path / "catalogue.txt"

    @property
    def scores(self) -> Path:
        return self.path / "evaluation" / "scores.json"

    def run(self) -> Run:
        """The run as it was resolved, and fitted to its latents where it asks for that."""
        return self.fitted(self.written())

    def written(self) -> Run:
        """The run as it was resolved, by this version or an earlier one."""
        return parse(self.config.read_text(), Run, fill=True)

    def fitted(self, run: Run) -> Run:
        """`run` with its density and grid fitted, where they are `FromSpectrum` and the latents' spectrum is known.

        That is the one which was noted of the first bucket when the denoiser's training began.
        """
        note = next(iter(sorted(self.path.glob("latents/*.json"))), None)
        power = np.asarray(json.loads(note.read_text()).get("spectrum", ()) if note else ())
        objective, how = run.denoiser.objective, run.sampling
        if not len(power):
            return run
        if isinstance(objective.density, density.FromSpectrum):
            objective = replace(objective, density=objective.density.fitted(power))
        if isinstance(how.grid, grid.FromSpectrum):
            how = replace(how, grid=how.grid.fitted(power))
        return replace(run, denoiser=replace(run.denoiser, objective=objective), sampling=how)

    def catalogue(self) -> Catalogue:
        """The catalogue as it was trained on. Raises `UserError` when it is gone, or that version of it is."""
        path, seen, *version = self.manifest.read_text().splitlines()
        catalogue = Catalogue(Path(path))
        if catalogue.hash() == seen:
            return catalogue
        with suppress(UserError):
            for number in version:
                before = Catalogue(Path(path), release=int(number))
                if before.hash() == seen:
                    return before
        raise UserError(
            f"{path} changed since {self.path} was trained on it, and what it was is not there any more: curate what "
            "it held again into another --out, or train anew on what it holds now"
        )

    def begun_on(self, catalogue: Catalogue) -> Catalogue:
        """`catalogue` as it was when this run began, if it did, and on that one: else as it is."""
        if self.config.exists() and self.manifest.read_text().splitlines()[0] == str(catalogue.path.resolve()):
            return self.catalogue()
        return catalogue

    def drawn_by(self, how: Sampling) -> list[Path]:
        """The files of parameters that samples depend on, a worse run's too if that is what they are led away from."""
        weak = how.against.path if isinstance(how.against, Weaker) else ""
        return [*sorted(self.path.glob("*.safetensors")), *(Path(weak).glob("denoiser.safetensors") if weak else ())]

    def tokenizer(self) -> Any:
        """The tokenizer of its captions."""
        return text.load(self.path / "tokenizer.json")

    @property
    def parameters(self) -> Path:
        return self.path / "codec.safetensors"

    @property
    def weights(self) -> Path:
        return self.path / "codec.json"

    def note(self) -> dict[str, Any]:
        """Which codec the run took from elsewhere: the `note` of `PretrainedConfig` or `TrainedConfig` at that time."""
        if not self.weights.exists():
            raise UserError(f"{self.weights} is not there: train the run first")
        return json.loads(self.weights.read_text())

    def told(self) -> str | dict[str, Any]:
        """What the codec is built of, as JSON has it: the text of a configuration of ours, or the options that another
        project's `config.json` tells."""
        config = self.run().codec.codec
        return self.note()["config"] if isinstance(config, Taken) else to_text(Built(config))

    def codec_config(self) -> Any:
        """What the codec is built of, with the factors and channels of its latents."""
        told = self.told()
        return parse(told, Built, fill=True).codec if isinstance(told, str) else architecture(told, self.weights)

    def codec_like(self) -> Codec | PixelCodec:
        """The codec as shapes without numbers."""
        like = codec_like if isinstance(self.told(), str) else pretrained_like
        return like(self.codec_config())

    def codec(self) -> Codec | PixelCodec:
        """The trained codec."""
        like = self.codec_like()
        return like if isinstance(like, PixelCodec) else release.load(self.parameters, like)

    def denoiser(self) -> Denoiser:
        """The trained denoiser."""
        config, channels = self.run().denoiser.denoiser, self.codec_config().channels
        like = jax.eval_shape(lambda: config.init(jax.random.key(0), channels))
        return release.load(self.path / "denoiser.safetensors", like)

    def text_config(self) -> TextConfig | None:
        """The text condition, if the model has one."""
        conditions = self.run().denoiser.denoiser.conditions.values()
        return next((config for config in conditions if isinstance(config, TextConfig)), None)


@dataclass(frozen=True)
class Built:
    """A configuration with its class's name, to be written as text."""

    codec: Learned | PixelCodecConfig


def codec_like(config: Learned | PixelCodecConfig) -> Codec | PixelCodec:
    """A codec of ours, as shapes without numbers."""
    if isinstance(config, PixelCodecConfig):
        return PixelCodec(config)
    return jax.eval_shape(lambda: Codec.blank(config.init(jax.random.key(0)), config))


FREE = ("sampling", "evaluation", "layout")
NOTED = (
    "log_every", "preview_every", "checkpoint_every", "keep", "keep_every", "trace", "guard", "validate", "wandb",
)  # fmt: skip
"""Settings of a training that change nothing of what is learned: a guard acts where the run would otherwise end."""


def _same(old: dict[str, str], new: dict[str, str], path: Path) -> None:
    """Settings that decide what is learned may not change under a folder; how it is sampled, judged or noted may."""
    for key in sorted(old.keys() | new.keys()):
        free = key.split(".")[0] in FREE or key.partition(".train.")[2].split(".")[0] in NOTED
        if not free and old.get(key) != new.get(key):
            learned = (path / "codec.safetensors").exists() and not (path / "codec.json").exists()
            take = f" (--set codec.codec=TrainedConfig --set codec.codec.path={path} takes its codec along)"
            raise UserError(
                f"{path} holds another run: {key} is {old.get(key)} there and {new.get(key)} now: use another folder"
                + (take if learned and key.startswith("denoiser.") else "")
            )
