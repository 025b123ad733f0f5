"""Weights & Biases (https://docs.wandb.ai) beside `log.jsonl`, from which it follows as TensorBoard's file does.

Each start of a training is a run of its own there, whole from the first line on, in the group of the run's folder: what
was logged past a checkpoint cannot be taken back from a run that goes on, and so the newest of a group is always right.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from diorama.core.errors import UserError


@dataclass(frozen=True)
class WandB:
    """Where to log to; needs `pip install diorama[wandb]`.

    Args:
        project, entity: as they are called there; an entity of None is the account's own.
        mode: "offline" writes to the run's folder, under `wandb/`; `wandb sync` sends that later.
    """

    project: str = "diorama"
    entity: str | None = None
    mode: Literal["online", "offline"] = "online"


class Board:
    """One start of a training in the folder of a run, on Weights & Biases.

    settings: of the training, to be shown there. lines: those that its log holds already.
    Raises `UserError` where the library is missing or does not let one in.
    """

    def __init__(self, how: WandB, folder: Path, settings: Any, lines: list[dict[str, Any]]):
        try:
            import wandb  # an extra, and slow to load
        except ImportError:
            raise UserError("train.wandb needs the library: pip install 'diorama[wandb]', or set it to None") from None
        where = folder.resolve()
        try:
            self._run = wandb.init(
                project=how.project, entity=how.entity, mode=how.mode, group=f"{where.parent.name}/{where.name}",
                job_type=where.name, dir=str(where), config=asdict(settings), reinit="create_new",
            )  # fmt: skip
        except wandb.errors.Error as error:
            raise UserError(f"train.wandb cannot log: {error}; see to it, or set mode to offline") from None
        self._run.define_metric("examples")
        self._run.define_metric("*", step_metric="examples")
        for line in lines:
            self.write(line)

    def write(self, line: dict[str, Any]) -> None:
        """Log a line; what is null is left out."""
        self._run.log({name: value for name, value in line.items() if value is not None})

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()
