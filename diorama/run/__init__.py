"""A recipe's `Run`, and the steps it goes through."""

from diorama.run.buckets import aspect_buckets
from diorama.run.folder import Folder
from diorama.run.generate import Generator
from diorama.run.packing import Packing
from diorama.run.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run, Sampling, Variants
from diorama.run.train import train_run
from diorama.run.trained import TrainedConfig

__all__ = [
    "Bucket", "CodecStage", "DenoiserStage", "Evaluation", "Folder", "Generator", "Packing", "Run", "Sampling",
    "TrainedConfig", "Variants", "aspect_buckets", "train_run",
]  # fmt: skip
