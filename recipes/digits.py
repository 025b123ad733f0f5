"""digits: the demo. Handwritten digits, still and moving, 32 x 32, by caption.

Command:   diorama demo      (or: diorama train digits --data CATALOGUE)
Hardware:  two CPU cores, 8 minutes.
"""

from diorama.codec import ConvCodecConfig
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import TextConfig, UNetConfig
from diorama.process.density import LogitNormal
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run, Sampling
from diorama.sample import ClassifierFree, Heun
from diorama.train import Cosine, Muon, Train

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def recipe() -> Run:
    """The run."""
    return Run(
        name="digits",
        codec=CodecStage(
            codec=ConvCodecConfig(spatial=4, temporal=4, channels=4, widths=(32, 64)),
            buckets=(Bucket(frames=9, batch=16),),
            train=Train(
                examples=5_600, optimizer=Muon(), learning_rate=4e-3, warmup=640, decay=Cosine(),
                checkpoint_every=1_600, log_every=640, preview_every=2_800,
            ),
        ),
        denoiser=DenoiserStage(
            denoiser=DenoiserConfig(
                net=UNetConfig(widths=(64, 128)), conditions={"text": TextConfig(vocabulary=512, length=12)}
            ),
            objective=Denoising(density=LogitNormal(mean=0.0, std=1.0), stratified=True),
            buckets=(Bucket(frames=9, batch=16, weight=5.0), Bucket(frames=1, batch=16, weight=1.0)),
            train=Train(
                examples=56_000, optimizer=Muon(), learning_rate=5e-3, warmup=1_600, decay=Cosine(),
                checkpoint_every=8_000, log_every=1_600, preview_every=28_000,
            ),
        ),
        sampling=Sampling(solver=Heun(), steps=12, guidance=ClassifierFree(7.0), batch=64),
        evaluation=Evaluation(samples=384, labels="digits", names=WORDS, motion="directions"),
    )  # fmt: skip
