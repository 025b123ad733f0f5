"""emoji_text: captioned emoji, 64 x 64, by caption.

Command:   diorama curate noto_emoji_128px.parquet --out emoji && diorama train emoji_text --data emoji
           diorama sample runs/emoji_text --prompt "clock face three oclock" --count 8
Hardware:  two CPU cores, 18 minutes.
Score:     codec 33.5 dB at 6x fewer numbers; Fréchet distance 1.3 times that of held-back emoji (n = 119, docs/log.md)

Data: googlefonts/noto-emoji (Apache-2.0), 1,198 pictures with their Unicode names. So few pictures are learned by
heart before long, which the memorisation score shows.
"""

from diorama.codec import ConvCodecConfig
from diorama.diffusion import DenoiserConfig
from diorama.net import TextConfig, UNetConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run, Sampling
from diorama.sample import ClassifierFree
from diorama.train import Cosine, Muon, Train


def recipe() -> Run:
    """The run."""
    return Run(
        name="emoji_text",
        codec=CodecStage(
            codec=ConvCodecConfig(spatial=4, temporal=1, channels=8, widths=(32, 64)),
            buckets=(Bucket(height=64, width=64, batch=32),),
            train=Train(
                examples=40_000, optimizer=Muon(), learning_rate=4e-3, warmup=3_200, decay=Cosine(),
                checkpoint_every=10_000, log_every=1_600, preview_every=20_000,
            ),
        ),
        denoiser=DenoiserStage(
            denoiser=DenoiserConfig(
                net=UNetConfig(widths=(64, 128, 128)), conditions={"text": TextConfig(vocabulary=1024, length=16)}
            ),
            buckets=(Bucket(height=64, width=64, batch=32),),
            train=Train(
                examples=120_000, optimizer=Muon(), learning_rate=4e-3, warmup=3_200, decay=Cosine(),
                checkpoint_every=20_000, log_every=1_600, preview_every=40_000,
            ),
        ),
        sampling=Sampling(steps=20, guidance=ClassifierFree(3.0), batch=32),
        evaluation=Evaluation(samples=119, labels=None),
    )  # fmt: skip
