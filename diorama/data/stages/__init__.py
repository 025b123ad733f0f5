"""What curation measures of every clip. Runs in the decoding workers: nothing here imports JAX."""

from diorama.data.stages.known import Shots, Signature, Technical
from diorama.data.stages.stage import Stage

__all__ = ["Shots", "Signature", "Stage", "Technical"]
