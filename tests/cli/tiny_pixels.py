"""tiny_pixels: the smallest recipe, of stills as pixels, for what is about processes and not about models."""

from diorama.codec import PixelCodecConfig
from diorama.diffusion import DenoiserConfig
from diorama.net import UNetConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run
from diorama.train import Train


def recipe() -> Run:
    """The run."""
    return Run(
        name="tiny_pixels",
        codec=CodecStage(PixelCodecConfig()),
        denoiser=DenoiserStage(
            DenoiserConfig(UNetConfig(widths=(4,), heads=1, width=8), {}),
            (Bucket(height=8, width=8, batch=4, kind="any"),),
            Train(examples=64, log_every=16),
        ),
        evaluation=Evaluation(samples=3, labels=None),
    )
