"""A recipe's `Run`, and the steps it goes through."""

from diorama.run.folder import Folder
from diorama.run.generate import Generator
from diorama.run.run import Bucket, CodecStage, DenoiserStage, Evaluation, Run, Sampling
from diorama.run.train import train_run

__all__ = [
    "Bucket", "CodecStage", "DenoiserStage", "Evaluation", "Folder", "Generator", "Run", "Sampling", "train_run",
]  # fmt: skip
