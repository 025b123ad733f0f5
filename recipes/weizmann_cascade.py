"""weizmann_cascade: the clips of `weizmann_action` by a cascade in pixels: few small frames, more frames, more pixels.

Command:   diorama curate weizmann64 --out weizmann && diorama train weizmann_cascade --data weizmann
           diorama sample runs/weizmann_cascade --label bending --prompt "a person bending down and standing up"
           diorama evaluate runs/weizmann_cascade
Hardware:  two CPU cores; its sizes are meant for about 15 minutes, which were not measured yet.
Score:     none yet. To beat, on the held-back person: 26.9 dB of frames between by a linear blend, 26.6 dB of pixels by
           bicubic enlargement (n = 224, docs/log.md); then `python -m benchmarks.cascade runs/weizmann_cascade`

A base of 3 frames of 16 x 16, every eighth one of the video (1 s); temporal super-resolution to 9 frames, every second
one; spatial super-resolution to 64 x 64.
"""

from diorama.codec import PixelCodecConfig
from diorama.diffusion import DenoiserConfig
from diorama.net import LabelConfig, LowResolutionConfig, TextConfig, UNetConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run, Sampling, Variants
from diorama.run.cascade import Cascade
from diorama.sample import ClassifierFree
from diorama.train import Cosine, Muon, Train

ACTIONS = ("one hand", "both hands", "running", "jumping jacks", "bending")  # the strips number them so; none runs


def stage(name: str, clip: Bucket, examples: int, denoiser: DenoiserConfig) -> Run:
    """One stage, on pixels."""
    return Run(
        name=name,
        codec=CodecStage(PixelCodecConfig()),
        denoiser=DenoiserStage(
            denoiser=denoiser,
            buckets=(clip,),
            train=Train(
                examples=examples, optimizer=Muon(), learning_rate=4e-3, warmup=examples // 12, decay=Cosine(),
                checkpoint_every=examples // 4, log_every=examples // 20,
            ),
            latents=Variants(dtype="float16"),
        ),
        sampling=Sampling(steps=20, guidance=ClassifierFree(2.0), batch=16, rate=12.5),
        evaluation=Evaluation(samples=256, labels="label", names=ACTIONS),
    )  # fmt: skip


def recipe() -> Cascade:
    """The cascade."""
    said = {"text": TextConfig(vocabulary=320, length=8), "label": LabelConfig(classes=len(ACTIONS))}
    base = DenoiserConfig(UNetConfig(widths=(64, 128)), said)
    frames = DenoiserConfig(UNetConfig(widths=(32, 64)), {"low": LowResolutionConfig(time=4)})
    pixels = DenoiserConfig(UNetConfig(widths=(16, 32, 64, 64)), {"low": LowResolutionConfig(space=4)})
    return Cascade(
        name="weizmann_cascade",
        stages=(
            stage("base", Bucket(frames=3, height=16, width=16, batch=16, stride=8, hop=2), 12_000, base),
            stage("frames", Bucket(frames=9, height=16, width=16, batch=16, stride=2, hop=2), 8_000, frames),
            stage("pixels", Bucket(frames=9, height=64, width=64, batch=4, stride=2, hop=2), 2_000, pixels),
        ),
    )
