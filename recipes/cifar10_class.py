"""cifar10_class: CIFAR-10, 32 x 32, by class.

Command:   diorama curate cifar10_train-*.parquet --out cifar10 && diorama train cifar10_class --data cifar10
           diorama sample runs/cifar10_class --label ship --label frog --count 8
Hardware:  two CPU cores, 12 minutes.
Score:     class as asked 39 % (classifier on real pictures 48 %), Fréchet distance 3.2 times that of held-back
           pictures (n = 1,024, docs/log.md)

Data: A. Krizhevsky 2009, 50,000 training pictures; curation holds back a tenth of them. A codec that halves each side
costs a little sharpness and makes every step of the denoiser four times cheaper than in pixels.
"""

from diorama.codec import ConvCodecConfig
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import LabelConfig, UNetConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run, Sampling
from diorama.sample import ClassifierFree
from diorama.train import Cosine, Muon, Train

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def recipe() -> Run:
    """The run."""
    return Run(
        name="cifar10_class",
        codec=CodecStage(
            codec=ConvCodecConfig(spatial=2, temporal=1, channels=6, widths=(64,)),
            buckets=(Bucket(batch=32),),
            train=Train(
                examples=40_000, optimizer=Muon(), learning_rate=4e-3, warmup=3_200, decay=Cosine(),
                checkpoint_every=10_000, log_every=1_600, preview_every=20_000,
            ),
        ),
        denoiser=DenoiserStage(
            denoiser=DenoiserConfig(
                net=UNetConfig(widths=(64, 128, 128)), conditions={"label": LabelConfig(classes=len(CLASSES))}
            ),
            objective=Denoising(stratified=True),
            buckets=(Bucket(batch=32),),
            train=Train(
                examples=64_000, optimizer=Muon(), learning_rate=4e-3, warmup=3_200, decay=Cosine(),
                checkpoint_every=20_000, log_every=3_200, preview_every=40_000,
            ),
        ),
        sampling=Sampling(steps=20, guidance=ClassifierFree(1.5), batch=64),
        evaluation=Evaluation(samples=1024, labels="label", names=CLASSES, classifier_steps=2_000),
    )  # fmt: skip
