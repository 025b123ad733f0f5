"""Daft on this machine: a row of its data frame is a batch, a lane a process of its own."""

import atexit
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import pyarrow as pa

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")  # it would tell its makers of every run
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")  # there is one already
import daft

from diorama.core.errors import UserError
from diorama.data.runners.runner import Advance, Batch, Engine, Function, FunctionError, patiently


@dataclass(frozen=True)
class Daft:
    """Daft's own threads, which hand batches to processes."""

    def lanes(self, workers: int | None) -> int:
        """As `Runner.lanes`. Raises `UserError` where this process has used Daft on Ray before."""
        settle("native", daft.set_runner_native)
        return workers or os.cpu_count() or 1

    def run(
        self, function: Function, batches: Sequence[pa.Table], workers: int | None, advance: Advance
    ) -> Generator[tuple[int, pa.Table], None, None]:
        """As `Runner.run`."""
        return patiently(engine(function, divide=False), function, batches, self.lanes(workers), advance)


def settle(kind: str, choose: Callable[[], object]) -> None:
    """Choose how Daft runs, which it lets a process do once. Raises `UserError` where it chose another `kind`."""
    try:
        choose()
    except Exception:
        if daft.runners.get_or_infer_runner_type() != kind:
            raise UserError("Daft runs either with Ray or without it in one process: start a new one") from None


def engine(function: Function, divide: bool) -> Engine:
    """`function` as `patiently` runs it: a data frame each time, in one partition or, to `divide` it, one a batch."""
    worker = _Worker(pickle.dumps(function), list(sys.path))

    def run(batches: Sequence[pa.Table], lanes: int) -> Generator[tuple[int, pa.Table], None, None]:
        look = daft.cls(max_concurrency=lanes, use_process=True)(_Looking)(worker).look
        frame = daft.from_pydict(
            {"number": list(range(len(batches))), "batch": [pickle.dumps(batch) for batch in batches]}
        )
        if divide:
            frame = frame.into_partitions(len(batches))
        frame = frame.select("number", look(frame["batch"]).alias("result"))
        with daft.execution_config_ctx(maintain_order=False):  # else what is done waits for what began before
            for part in frame.to_arrow_iter(results_buffer_size=1):
                for row in part.to_pylist():
                    result = pickle.loads(row["result"])
                    if isinstance(result, str):
                        raise FunctionError(f"in a worker of Daft:\n{result}")
                    yield row["number"], result

    return run


@dataclass
class _Worker:
    """The function in another process, where it is opened once, until that process ends."""

    function: bytes
    paths: list[str]  # where that process finds what the function is made of
    opened: Batch | None = field(default=None, repr=False)

    def __call__(self, batch: bytes) -> bytes:
        """A pickled table, or the text of what went wrong."""
        try:
            if self.opened is None:
                sys.path += [path for path in self.paths if path not in sys.path]
                stack = ExitStack()
                self.opened = stack.enter_context(pickle.loads(self.function).open(1))
                atexit.register(stack.close)
            return pickle.dumps(self.opened(pickle.loads(batch), lambda count: None))
        except Exception:
            return pickle.dumps(traceback.format_exc())


class _Looking:
    """What Daft makes one of in each of its processes."""

    def __init__(self, worker: _Worker) -> None:
        self.worker = worker

    @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=1)
    def look(self, batches: daft.Series) -> list[bytes]:
        return [self.worker(batch) for batch in batches.to_pylist()]
