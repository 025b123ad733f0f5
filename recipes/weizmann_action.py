"""weizmann_action: people who wave, jump and bend, 64 x 64 video by caption and action.

Command:   diorama curate weizmann64 --out weizmann && diorama train weizmann_action --data weizmann
           diorama sample runs/weizmann_action --label bending --prompt "a person bending down and standing up"
Hardware:  two CPU cores, 26 minutes (busy).
Score:     codec 29.5 dB at 36x fewer numbers; action as asked 100 % (n = 224, docs/log.md)

Data: the Weizmann actions (Gorelick et al. 2007) as 64-pixel strips, seven persons, each clip also mirrored. Windows
of 9 frames, every second one (0.7 s), begin at every second frame; whole persons are held back.
"""

from diorama.codec import ConvCodecConfig
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import LabelConfig, TextConfig, UNetConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run, Sampling
from diorama.sample import ClassifierFree
from diorama.train import Cosine, Muon, Train

CLIP = Bucket(frames=9, height=64, width=64, batch=16, stride=2, hop=2)
ACTIONS = ("one hand", "both hands", "running", "jumping jacks", "bending")  # the strips number them so; none runs


def recipe() -> Run:
    """The run."""
    return Run(
        name="weizmann_action",
        codec=CodecStage(
            codec=ConvCodecConfig(spatial=4, temporal=4, channels=4, widths=(32, 64)),
            buckets=(CLIP,),
            train=Train(
                examples=6_400, optimizer=Muon(), learning_rate=4e-3, warmup=640, decay=Cosine(),
                checkpoint_every=1_600, log_every=640, preview_every=3_200,
            ),
        ),
        denoiser=DenoiserStage(
            denoiser=DenoiserConfig(
                net=UNetConfig(widths=(64, 128, 128)),
                conditions={"text": TextConfig(vocabulary=320, length=8), "label": LabelConfig(classes=len(ACTIONS))},
            ),
            objective=Denoising(independent=0.25),
            buckets=(CLIP,),
            train=Train(
                examples=40_000, optimizer=Muon(), learning_rate=4e-3, warmup=3_200, decay=Cosine(),
                checkpoint_every=8_000, log_every=1_600, preview_every=16_000,
            ),
        ),
        sampling=Sampling(steps=20, guidance=ClassifierFree(2.0), batch=16, rate=12.5),
        evaluation=Evaluation(samples=256, labels="label", names=ACTIONS),
    )  # fmt: skip
