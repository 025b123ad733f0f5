"""What curation measures of every clip. Runs in the decoding workers: nothing here imports JAX."""

from diorama.data.stages.known import Shots, Signature, Technical
from diorama.data.stages.motion import Motion
from diorama.data.stages.preview import Preview
from diorama.data.stages.stage import Batch, Derived, Stage

__all__ = ["Batch", "Derived", "Motion", "Preview", "Shots", "Signature", "Stage", "Technical"]
