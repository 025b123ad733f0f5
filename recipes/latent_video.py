"""latent_video: your own folder. Stills and videos together, 64 x 64, by caption where there are captions.

Command:   diorama curate ~/media --out c && diorama train latent_video --data c
           diorama sample runs/latent_video --prompt "..."        (--first IMAGE goes on from a picture of yours)
Hardware:  two CPU cores, about 20 minutes; an accelerator takes more examples and wider nets for the same time:
           --set denoiser.train.examples=5000000 --set denoiser.denoiser.net.widths="(128, 256, 256)"
Score:     depends on the media: `diorama evaluate`

A folder of stills alone works, and so does one without captions: buckets without clips are left out, and a model
that never met a caption draws without one. Videos give a window of 9 frames, every second one, from each 16 on.
"""

from diorama.codec import ConvCodecConfig
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import TextConfig, UNetConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run, Sampling
from diorama.sample import ClassifierFree
from diorama.train import Cosine, Muon, Train

VIDEO = Bucket(frames=9, height=64, width=64, batch=16, stride=2, hop=16)
STILL = Bucket(frames=1, height=64, width=64, batch=32, kind="any")


def recipe() -> Run:
    """The run."""
    return Run(
        name="latent_video",
        codec=CodecStage(
            codec=ConvCodecConfig(spatial=4, temporal=4, channels=8, widths=(32, 64)),
            buckets=(VIDEO, STILL),
            train=Train(
                examples=16_000, optimizer=Muon(), learning_rate=4e-3, warmup=1_600, decay=Cosine(),
                checkpoint_every=4_000, log_every=800, preview_every=8_000,
            ),
        ),
        denoiser=DenoiserStage(
            denoiser=DenoiserConfig(
                net=UNetConfig(widths=(64, 128, 128)), conditions={"text": TextConfig(vocabulary=2048, length=32)}
            ),
            objective=Denoising(independent=0.25),
            buckets=(VIDEO, STILL),
            train=Train(
                examples=60_000, optimizer=Muon(), learning_rate=4e-3, warmup=3_200, decay=Cosine(),
                checkpoint_every=8_000, log_every=1_600, preview_every=20_000,
            ),
        ),
        sampling=Sampling(steps=20, guidance=ClassifierFree(3.0), batch=16, rate=12.0),
        evaluation=Evaluation(samples=256, labels="label"),
    )  # fmt: skip
