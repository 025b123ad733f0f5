"""tiny: a recipe of which tests expect nothing but that it runs."""

from diorama.codec import ConvCodecConfig, Patch
from diorama.diffusion import DenoiserConfig
from diorama.net import LabelConfig, TextConfig, UNetConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run, Sampling
from diorama.sample import Euler
from diorama.train import Train


def recipe() -> Run:
    """The run."""
    clip, still = Bucket(frames=9, batch=4), Bucket(frames=1, batch=4, kind="any")
    return Run(
        name="tiny",
        codec=CodecStage(
            codec=ConvCodecConfig(spatial=8, temporal=4, channels=2, front=Patch(8), widths=(8,)),
            buckets=(clip,),
            train=Train(examples=16, checkpoint_every=8, log_every=4),
        ),
        denoiser=DenoiserStage(
            denoiser=DenoiserConfig(
                net=UNetConfig(widths=(8,), heads=2, width=8),
                conditions={
                    "text": TextConfig(vocabulary=300, length=8, heads=2),
                    "label": LabelConfig(classes=10),
                },
            ),
            buckets=(clip, still),
            train=Train(examples=64, checkpoint_every=32, log_every=4),
        ),
        sampling=Sampling(solver=Euler(), steps=2, batch=4),
        evaluation=Evaluation(samples=4, names=tuple("abcdefghij")),
    )
