"""Where curation looks at media: in processes of this machine, by Daft, or by Daft on a Ray cluster."""

from diorama.data.runners.local import Local
from diorama.data.runners.named import RUNNERS, named
from diorama.data.runners.runner import Advance, Batch, Function, Runner

__all__ = ["RUNNERS", "Advance", "Batch", "Function", "Local", "Runner", "named"]
