"""From an iterator of batches to batches that lie on the devices, with the position in the data after each."""

import json
import time
from typing import Any, Protocol

import jax
import numpy as np

from diorama.core.errors import UserError
from diorama.core.layout import Layout


class Batches(Protocol):
    """Where batches come from: a `grain.DatasetIterator`, or anything like one.

    A batch is a dict of numpy arrays (no strings) with the same leading axis, `id` (b,) uint32 among them; in several
    processes, this process's part. Batches may have several shapes; each is compiled once. States are JSON values.
    """

    def __next__(self) -> dict[str, np.ndarray]: ...
    def get_state(self) -> Any: ...
    def set_state(self, state: Any) -> None: ...


class Feed:
    """Takes batches, checks them, puts them on the devices, and measures the wait.

    parts: devices that a batch is split over; accumulate: parts that it is computed in.
    """

    def __init__(self, batches: Batches, layout: Layout, accumulate: int, name: str):
        self.batches, self.layout, self.name, self.accumulate = batches, layout, name, accumulate
        self.parts = layout.data * layout.fsdp
        self.waited = 0.0

    def skip(self, number: int, done: int) -> None:
        """Leave out so many batches."""
        for _ in range(number):
            self._next(done)

    def take(self, done: int) -> tuple[dict[str, jax.Array], str]:
        """The next batch on the devices, and the position in the data (JSON) once it is used."""
        began = time.perf_counter()
        batch = self._next(done)
        position = json.dumps(self.batches.get_state())
        self.waited += time.perf_counter() - began
        size = len(batch["id"]) * self.layout.share.hosts
        if size % self.parts or size % self.accumulate:
            raise UserError(
                f"{self.name}: a batch of {size} does not divide over {self.parts} devices (layout.data x layout.fsdp) "
                f"and {self.accumulate} parts (train.accumulate): choose a batch size that does"
            )
        return self.layout.put(batch), position

    def _next(self, done: int) -> dict[str, np.ndarray]:
        try:
            return next(self.batches)
        except StopIteration:
            raise UserError(f"{self.name}: the data ran out after {done:,} examples: repeat the data set") from None
