"""A run: everything that an experiment depends on, in one frozen value. A recipe is a function that returns one."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from diorama.codec import CodecLoss, ConvCodecConfig, PixelCodecConfig, TokenCodecConfig
from diorama.core.config import to_text
from diorama.core.errors import UserError
from diorama.core.layout import Layout
from diorama.data.embed.dense import OwnPlaces, PretrainedPlaces
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.diffusion.align import Aligned, AnyAlignment
from diorama.interop.diffusers import AutoencoderKLConfig, PretrainedConfig
from diorama.net import LowResolutionConfig
from diorama.process import Process
from diorama.run.against import Null, PerturbedAttention, Weaker
from diorama.run.packing import Packing
from diorama.run.trained import TrainedConfig
from diorama.sample import AnyGuidance, AnySolver, ClassifierFree, Heun
from diorama.sample.grid import AnyGrid, Uniform
from diorama.sample.plan import Restart
from diorama.sample.rollout import Cached, Recomputed
from diorama.train import Train

Learned = ConvCodecConfig | TokenCodecConfig | AutoencoderKLConfig
Taken = PretrainedConfig | TrainedConfig


@dataclass(frozen=True)
class Bucket:
    """Clips of one shape. Every batch comes from one bucket, and each shape is compiled once.

    Args:
        frames, height, width: what media are brought to (scaled to cover, cut in the middle).
        batch: clips a batch.
        weight: how often this bucket's turn comes, beside the others'.
        stride: step between the frames taken.
        hop: also take the windows that begin every `hop` frames later; None takes a clip's first window only.
        kind: "image", "video", or "any" (the first frame of videos too, if frames is 1).
        aspects: only clips whose width over height is above the first of these and at most the second; None takes all.
            `diorama.run.aspect_buckets` shares clips of every shape out among buckets.
    """

    frames: int = 1
    height: int = 32
    width: int = 32
    batch: int = 32
    weight: float = 1.0
    stride: int = 1
    hop: int | None = None
    kind: Literal["image", "video", "any"] | None = None
    aspects: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        sizes = self.frames, self.height, self.width, self.batch, self.stride
        if min(*sizes, 1 if self.hop is None else self.hop) < 1 or self.weight < 0:
            raise UserError(f"a bucket's sizes, batch, stride and hop are at least 1, its weight at least 0: {self!r}")

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"


@dataclass(frozen=True)
class CodecStage:
    """How the codec is made.

    Args:
        codec: its sizes; or another project's weights, another run's codec, or pixels, where nothing is to learn and
            the rest is left out.
        buckets, train: what it is trained on, and how.
        loss: what it is trained for. With an adversary, `train.roles` may give "critic" its own learning rate.
        perceptual: how the run's own perceptual network is trained first, where a term of the loss asks for one.
    """

    codec: Learned | Taken | PixelCodecConfig
    buckets: tuple[Bucket, ...] = ()
    train: Train | None = None
    loss: CodecLoss = field(default_factory=CodecLoss)
    perceptual: Train | None = None

    def __post_init__(self) -> None:
        if self.perceptual is not None and self.loss.own is None:
            raise UserError("codec.perceptual is set and no term of codec.loss asks for a network: add OwnPerceptual()")

    @property
    def learned(self) -> Learned | None:
        """What is trained; None where there is nothing to learn."""
        return self.codec if isinstance(self.codec, Learned) else None

    @property
    def taken(self) -> Taken | None:
        """What was trained elsewhere and is taken as it is, if anything."""
        return self.codec if isinstance(self.codec, Taken) else None


@dataclass(frozen=True)
class Variants:
    """Which latents there are of every clip. Training draws one of them each time that the clip's turn comes.

    Args:
        flips: also mirrored, left for right. What captions say of left and right, and letters in the picture, are then
            wrong every other time: it is for you to know whether your clips bear that.
        crops: windows of frames that are scaled to cover the size: the one in the middle, and `crops - 1` elsewhere.
            Where frames have the shape that is asked for, all are the same one.
        seed: of where those lie, with the clip's id.
        dtype: how they are stored. "float16" takes half the disk and rounds to 3 digits; training computes in float32.
    """

    flips: bool = False
    crops: int = 1
    seed: int = 0
    dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        if self.crops < 1 or self.seed < 0:
            raise UserError("crops is at least 1, the middle one alone, and seed at least 0")


@dataclass(frozen=True)
class DenoiserStage:
    """How the denoiser is made.

    Args:
        denoiser: network, conditions, process, prediction.
        objective: density and weighting of noise times.
        buckets, train: what it is trained on, and how.
        latents: which variants of every clip it is trained on.
        align: terms beside the objective's loss, on what the network computes on the way (`diorama.diffusion.align`).
        features: of the clips by a frozen encoder, where such a term is to align to them.
        packing: train on rows of clips from all buckets, and not on one bucket's batch after another's.
    """

    denoiser: DenoiserConfig
    buckets: tuple[Bucket, ...]
    train: Train
    objective: Denoising = field(default_factory=Denoising)
    latents: Variants = field(default_factory=Variants)
    align: tuple[AnyAlignment, ...] = ()
    features: OwnPlaces | PretrainedPlaces | None = None
    packing: Packing | None = None

    def __post_init__(self) -> None:
        if self.packing:
            self.packing.check(self)
        reads = Aligned(self.objective, self.align).reads
        if reads and self.features is None:
            raise UserError("a term of align reads an encoder's features: give features=OwnPlaces(), or leave it out")
        if self.features is not None and not reads:
            raise UserError("features are given and no term of align reads them: add REPA() or leave them out")
        if self.features is not None and "features" in self.denoiser.conditions:
            raise UserError("'features' are those of an encoder here: call the condition by another name")


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn.

    Args:
        solver, grid, steps: the way from noise to data.
        restart: where the way goes back up with fresh noise and down again, if anywhere.
        guidance: how far samples follow their conditions, and by which rule.
        against: what is weak, and led away from: the model without conditions, a worse model, a disturbed one.
        rollout: how videos longer than those of the training go on; None is by what the network is (`rollout.usual`).
        augmentation: noise level of the lower resolution that clips are drawn from, where the run has one.
        batch: clips that are computed together; fixed, so that an example comes out the same in any company.
        rate: frames a second of videos that are written.
    """

    solver: AnySolver = field(default_factory=Heun)
    grid: AnyGrid = field(default_factory=Uniform)
    steps: int = 20
    restart: Restart | None = None
    guidance: AnyGuidance = field(default_factory=lambda: ClassifierFree(2.0))
    against: Null | PerturbedAttention | Weaker = field(default_factory=Null)
    rollout: Cached | Recomputed | None = None
    augmentation: float = 0.0
    batch: int = 32
    rate: float = 8.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.rate <= 0:
            raise UserError("sampling.steps and sampling.batch are at least 1, and sampling.rate is above 0")

    def taus(self, process: Process) -> np.ndarray:
        """The noise times of a clip made at once, for a plan."""
        taus = self.grid(process, self.steps)
        return self.restart(taus) if self.restart else taus


@dataclass(frozen=True)
class Evaluation:
    """What is measured.

    Args:
        samples: how many are drawn, for prompts of held-back clips; at most as many as those are.
        labels: the column that says what a clip shows ("label", or a list such as "digits"), None for none: a
            classifier is trained on it that judges samples and gives the features of the distances.
        names: the labels' names.
        motion: the column of directions of motion, None for none: samples are tracked.
        classifier_steps: training steps of the classifier.
    """

    samples: int = 512
    labels: str | None = "label"
    names: tuple[str, ...] = ()
    motion: str | None = None
    classifier_steps: int = 1800


@dataclass(frozen=True)
class Run:
    """An experiment. See `recipes/` for examples; `config.txt` in a run folder is this, as text."""

    name: str
    codec: CodecStage
    denoiser: DenoiserStage
    sampling: Sampling = field(default_factory=Sampling)
    evaluation: Evaluation = field(default_factory=Evaluation)
    layout: Layout = field(default_factory=Layout)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.codec.learned and not (self.codec.train and self.codec.buckets):
            raise UserError(f"the run '{self.name}' has a codec to learn: give codec.train and codec.buckets")
        if not self.denoiser.buckets:
            raise UserError(f"the run '{self.name}' has nothing to train on: give denoiser.buckets")
        _, low = self.denoiser.denoiser.low or ("", LowResolutionConfig(augmentation=0))
        if not 0 <= self.sampling.augmentation <= low.augmentation:
            raise UserError(
                f"sampling.augmentation of the run '{self.name}' is from 0 to {low.augmentation:g}, the noise levels "
                "that its low resolution was trained at (0 where it has none)"
            )
        for bucket in self.denoiser.buckets:
            if bucket.height % low.space or bucket.width % low.space:
                raise UserError(f"clips of {bucket} have no whole sides {low.space} times smaller: change either")

    def text(self) -> str:
        """The resolved configuration."""
        return to_text(self)
