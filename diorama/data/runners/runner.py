"""What a runner is, and what all that run elsewhere share.

A runner takes a function of Arrow tables to where it is run, and knows nothing else of curation; the function knows
nothing of runners. What is done is what is written, by the caller, so resuming is the same on all of them.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from typing import Protocol

import pyarrow as pa

Advance = Callable[[int], object]  # told how many rows more are done
Batch = Callable[[pa.Table, Advance], pa.Table]


class Function(Protocol):
    """A pure function of a table, one row of result a row; picklable."""

    def open(self, workers: int) -> AbstractContextManager[Batch]:
        """The function, with `workers` processes of its own as long as it is open. For one thread at a time."""

    def failed(self, batch: pa.Table, reason: str) -> pa.Table:
        """What to say of rows that end the process which works on them."""


class Runner(Protocol):
    """Where a function is run on batches; a frozen dataclass."""

    def lanes(self, workers: int | None) -> int:
        """Batches under way at a time, with `workers` processes; None for as many as there are cores.

        Raises `UserError` where what it needs is not installed or not reached.
        """

    def run(
        self, function: Function, batches: Sequence[pa.Table], workers: int | None, advance: Advance
    ) -> Generator[tuple[int, pa.Table], None, None]:
        """The number and the result of every batch, in any order, as soon as it is there.

        No more batches are under way than there are lanes. What the function raises is raised.
        """


class FunctionError(RuntimeError):
    """What a function raised in another process: its mistake, and no accident of the process."""


Engine = Callable[
    [Sequence[pa.Table], int], Generator[tuple[int, pa.Table], None, None]
]  # batches, lanes -> as `Runner.run`


def patiently(
    engine: Engine, function: Function, batches: Sequence[pa.Table], lanes: int, advance: Advance
) -> Generator[tuple[int, pa.Table], None, None]:
    """Results of an engine that fails as a whole when one of its processes ends.

    What is left is run once more. If that fails too, the batches that may have been under way are run alone, and
    halved until the row is found that ends its process. Raises the engine's error where not even no rows succeed.
    """
    left = dict(enumerate(batches))
    failures = 0
    while left:
        numbers = list(left)
        try:
            with closing(engine([left[k] for k in numbers], lanes)) as results:
                for nth, result in results:
                    advance(len(left.pop(numbers[nth])))
                    yield numbers[nth], result
            if left:
                raise RuntimeError(f"{len(left)} batches were lost")
        except FunctionError:
            raise
        except Exception:
            failures += 1
            if failures < 2:
                continue
            for k in list(left)[: 2 * lanes]:
                yield k, _halved(engine, function, left[k])
                advance(len(left.pop(k)))
            failures = 0


def _halved(engine: Engine, function: Function, batch: pa.Table) -> pa.Table:
    try:
        [(_, result)] = engine([batch], 1)
        return result
    except FunctionError:
        raise
    except Exception:
        if len(batch) > 1:
            half = len(batch) // 2
            halves = batch.slice(0, half), batch.slice(half)
            return pa.concat_tables([_halved(engine, function, part) for part in halves])
        list(engine([batch.slice(0, 0)], 1))  # whether anything runs at all
        return function.failed(batch, "ended the process that looked at it")
