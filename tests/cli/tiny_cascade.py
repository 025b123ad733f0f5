"""tiny_cascade: a cascade of two stages of which tests expect nothing but that it runs."""

from diorama.codec import PixelCodecConfig
from diorama.diffusion import DenoiserConfig
from diorama.net import LabelConfig, LowResolutionConfig, UNetConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run, Sampling
from diorama.run.cascade import Cascade
from diorama.sample import Euler
from diorama.train import Train


def stage(name: str, size: int, conditions: dict[str, LabelConfig | LowResolutionConfig]) -> Run:
    """One on videos of 5 frames."""
    net = UNetConfig(widths=(4,), heads=1, width=8)
    return Run(
        name=name,
        codec=CodecStage(PixelCodecConfig()),
        denoiser=DenoiserStage(
            DenoiserConfig(net, {**conditions}),
            (Bucket(frames=5, height=size, width=size, batch=4),),
            Train(examples=16),
        ),
        sampling=Sampling(solver=Euler(), steps=2, batch=4),
        evaluation=Evaluation(samples=3, labels=None),
    )


def recipe() -> Cascade:
    """The cascade."""
    small = stage("small", 8, {"label": LabelConfig(classes=10)})
    return Cascade("tiny_cascade", (small, stage("large", 16, {"low": LowResolutionConfig(space=2)})))
