"""digits: the demo. Handwritten digits, still and moving, 32 x 32, by caption.

Command:   diorama demo      (or: diorama train digits --data CATALOGUE)
Hardware:  two CPU cores, 8 minutes.
"""

from diorama.codec import ConvCodecConfig
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import TextConfig, UNetConfig
from diorama.process.density import LogitNormal
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run, Sampling
from diorama.sample import Heun
from diorama.train import Cosine, Train

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def recipe() -> Run:
    """The run."""
    return Run(
        name="digits",
        codec=CodecStage(
            codec=ConvCodecConfig(spatial=4, temporal=4, channels=4, widths=(32, 64)),
            buckets=(Bucket(frames=9, batch=16),),
            train=Train(
                examples=9_600, learning_rate=2e-3, warmup=800, decay=Cosine(), ema_std=(0.05,),
                checkpoint_every=3_200, log_every=800, preview_every=4_800,
            ),
        ),
        denoiser=DenoiserStage(
            denoiser=DenoiserConfig(
                net=UNetConfig(widths=(64, 128)), conditions={"text": TextConfig(vocabulary=512, length=12)}
            ),
            objective=Denoising(density=LogitNormal(mean=0.0, std=1.0)),
            buckets=(Bucket(frames=9, batch=32, weight=3.0), Bucket(frames=1, batch=64, weight=1.0)),
            train=Train(
                examples=100_000, learning_rate=2e-3, warmup=3_200, decay=Cosine(), ema_std=(0.05,),
                checkpoint_every=20_000, log_every=2_000, preview_every=50_000,
            ),
        ),
        sampling=Sampling(solver=Heun(), steps=16, guidance=2.0, batch=64),
        evaluation=Evaluation(samples=352, labels="digits", names=WORDS, motion="directions"),
    )  # fmt: skip
