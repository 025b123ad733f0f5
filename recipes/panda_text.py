"""panda_text: captioned clips of real life, 72 x 40 video and stills, by text.

Command:   diorama curate panda70m --out panda && diorama train panda_text --data panda
           diorama sample runs/panda_text --prompt "a person is decorating pumpkin pies" --frames 9
Hardware:  two CPU cores, 38 minutes of processor time.
Score:     codec 26.3 dB at 18x fewer numbers; blurs of scenes that captions name (n = 192, docs/log.md)

Data: 97 clips of Panda-70M (Chen et al. 2024) of up to 8 seconds, 256 x 144, with a caption each in captions.jsonl;
curation holds back whole clips. Windows of 9 frames, every second one, begin at every eighth frame; stills are first
frames. So few clips are a test of the way and not of what a model can imagine.
"""

from diorama.codec import ConvCodecConfig
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import TextConfig, UNetConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run, Sampling
from diorama.sample import ClassifierFree
from diorama.train import Cosine, Muon, Train

VIDEO = Bucket(frames=9, height=40, width=72, batch=16, stride=2, hop=8, weight=3.0)
STILL = Bucket(frames=1, height=40, width=72, batch=32, hop=8, kind="any")


def recipe() -> Run:
    """The run."""
    return Run(
        name="panda_text",
        codec=CodecStage(
            codec=ConvCodecConfig(spatial=4, temporal=4, channels=8, widths=(32, 64)),
            buckets=(VIDEO,),
            train=Train(
                examples=9_600, optimizer=Muon(), learning_rate=4e-3, warmup=960, decay=Cosine(),
                checkpoint_every=3_200, log_every=640, preview_every=4_800,
            ),
        ),
        denoiser=DenoiserStage(
            denoiser=DenoiserConfig(
                net=UNetConfig(widths=(64, 128)), conditions={"text": TextConfig(vocabulary=512, length=24)}
            ),
            objective=Denoising(independent=0.25),
            buckets=(VIDEO, STILL),
            train=Train(
                examples=48_000, optimizer=Muon(), learning_rate=4e-3, warmup=3_200, decay=Cosine(),
                checkpoint_every=8_000, log_every=1_600, preview_every=16_000,
            ),
        ),
        sampling=Sampling(steps=20, guidance=ClassifierFree(3.0), batch=16, rate=12.0),
        evaluation=Evaluation(samples=192, labels=None),
    )  # fmt: skip
