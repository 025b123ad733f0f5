"""This machine: one batch after another, each by the function's own pool of processes."""

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from diorama.data.runners.runner import Advance, Function


@dataclass(frozen=True)
class Local:
    """All processes share a batch, so that it does not matter how long each item takes."""

    def lanes(self, workers: int | None) -> int:
        """As `Runner.lanes`: one, for all processes."""
        return 1

    def run(
        self, function: Function, batches: Sequence[pa.Table], workers: int | None, advance: Advance
    ) -> Generator[tuple[int, pa.Table], None, None]:
        """As `Runner.run`, in order."""
        with function.open(workers or os.cpu_count() or 1) as batch_function:
            for number, batch in enumerate(batches):
                yield number, batch_function(batch, advance)
