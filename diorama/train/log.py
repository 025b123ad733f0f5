"""Two logs of a run: `log.jsonl`, one line an interval, which is the truth; and TensorBoard's, derived from it.

When a run goes on from a checkpoint, lines past it are cut, and TensorBoard's file is written again from what
is left. So the log of a run that was killed any number of times equals that of one that never was, but for `TIMING`.
"""

import json
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from diorama.core.files import write_text

TIMING = (
    "seconds", "examples_per_second", "data_seconds", "dispatch_seconds", "device_seconds", "aside_seconds",
    "cells_per_second", "flops_per_second", "utilisation", "memory_bytes",
)  # fmt: skip
"""Fields of a line that differ from run to run: seconds since the last start, and since the last line (`train.measure`)

    examples_per_second, cells_per_second     of latents; time aside does not count
    data_ dispatch_ device_ aside_seconds     where the host's time went
    flops_per_second, utilisation             model FLOPs, and their share of what the devices could
    memory_bytes                              the most so far, of a device, or of the process

A figure that is not known is null: cells where there are no latents, utilisation of a chip that `core.chips` lacks,
and of a CPU that was so busy when its peak was measured that more was reached.
"""


def read_log(folder: Path | str) -> list[dict[str, Any]]:
    """The lines of a run's log, oldest first; a line cut short by a kill ends it."""
    path = Path(folder) / "log.jsonl"
    lines: list[dict[str, Any]] = []
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


class Log:
    """The log of a run that has a checkpoint at `examples` (0: none)."""

    def __init__(self, folder: Path, examples: int):
        kept = [line for line in read_log(folder) if line["examples"] <= examples]
        write_text(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in kept))
        self._file = (folder / "log.jsonl").open("a")
        board = folder / "tensorboard"
        for old in board.glob("events.out.tfevents.*"):
            old.unlink()
        self._board = SummaryWriter(str(board))
        for line in kept:
            self._scalars(line)

    def write(self, line: dict[str, Any]) -> None:
        """Append a line; it holds `examples`, `step` and scalars."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._scalars(line)

    def _scalars(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            if name not in ("examples", "step") and value is not None:
                self._board.add_scalar(name, value, line["examples"])

    def close(self) -> None:
        self._file.close()
        self._board.close()
