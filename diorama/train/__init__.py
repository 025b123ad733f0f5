"""Training: one loop for every objective, with averages of the weights, exact resume and logs."""

from diorama.train.board import WandB
from diorama.train.checkpoint import examples_done
from diorama.train.guard import Guard
from diorama.train.load import load_model, reconstruct
from diorama.train.log import read_log
from diorama.train.loop import Preview, train
from diorama.train.optimizer import AdamW, Muon
from diorama.train.rate import Constant, Cosine, InverseSquareRoot
from diorama.train.state import Loss, Objective, Role, Scheduled, State, Train, Validate
from diorama.train.stop import Stopped
from diorama.train.validation import Held

__all__ = [
    "AdamW", "Constant", "Cosine", "Guard", "Held", "InverseSquareRoot", "Loss", "Muon", "Objective", "Preview", "Role",
    "Scheduled", "State", "Stopped", "Train", "Validate", "WandB",
    "examples_done", "load_model", "read_log", "reconstruct", "train",
]  # fmt: skip
