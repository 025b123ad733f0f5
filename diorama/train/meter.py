"""Reading the running means late, into log lines; and finding what was not finite, or a spike, on the way."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from diorama.core.layout import Layout
from diorama.core.progress import Bar
from diorama.train.board import Board
from diorama.train.feed import Feed
from diorama.train.guard import SPIKES, Fault, Guard
from diorama.train.log import TIMING, Log
from diorama.train.measure import Gauge
from diorama.train.state import Tally, fault_names


class Meter:
    """Reads the tally, late, into log lines, and stops the run at a fault."""

    def __init__(
        self, logs: Sequence[Log | Board], feed: Feed, gauge: Gauge, name: str, metrics: list[str], model: Any,
        layout: Layout, guard: Guard | None,
    ):  # fmt: skip
        self.logs, self.feed, self.gauge, self.name = logs, feed, gauge, name
        self.faults, self.sharding = fault_names(model), layout.sharding()
        self.patience = guard.patience if guard else 1
        self.blank = jax.device_put(Tally.blank(metrics, len(self.faults), guard), self.sharding)
        self.pending: tuple[Tally, dict[str, Any]] | None = None

    def restored(self, saved: dict[str, Any]) -> Tally:
        """The tally of a checkpoint."""
        sums, weights = (
            {name: jax.device_put(np.float32(x), self.sharding) for name, x in saved[part].items()}
            for part in ("sums", "weights")
        )
        watch = self.blank.watch and self.blank.watch.restored(saved.get("watch"))
        return Tally(sums, weights, self.blank.fault_step, self.blank.fault, watch)

    def start(self, done: int) -> None:
        """The clock starts, and all counting with it."""
        self.gauge.begin()
        self.began = self.since = time.perf_counter()
        self.counted, self.feed.waited = done, 0.0

    def mark(self, tally: Tally, done: int, steps: int) -> Tally:
        """A line is due for what `tally` holds: note the time; the numbers may not be there yet. The next tally."""
        now = time.perf_counter()
        speed = (done - self.counted) / (now - self.since)
        timing: dict[str, float | None] = dict(zip(TIMING, (now - self.began, speed, self.feed.waited), strict=False))
        timing |= self.gauge.read(now - self.since)
        self.pending = tally, {"examples": done, "step": steps, **timing}
        self.since, self.counted, self.feed.waited = now, done, 0.0
        return replace(self.blank, watch=tally.watch)

    def read(self, bar: Bar, more: dict[str, float] | None = None) -> None:
        """Write the line that is due, if any, with `more` values."""
        if self.pending is None:
            return
        tally, line = self.pending
        self.pending = None
        self.check(tally)
        sums, weights = jax.device_get((tally.sums, tally.weights))
        line |= {k: float(sums[k] / weights[k]) if weights[k] else None for k in sums}
        used = line["utilisation"]
        bar.note(f"loss {line['loss']:.4g}" + (f", {used:.0%} of peak" if used else ""))
        for log in self.logs:
            log.write(line | (more or {}))

    def check(self, tally: Tally) -> None:
        """Raise `Fault` if a value was not finite in what `tally` counts, or a spike."""
        step = int(jax.device_get(tally.fault_step))
        if step < 0:
            return
        bad = np.flatnonzero(jax.device_get(tally.fault))
        spikes, wrong = bad[bad >= len(self.faults)], bad[bad < len(self.faults)]
        if not len(wrong):
            what = " and ".join(SPIKES[i - len(self.faults)] for i in spikes)
            raise Fault(self.name, step, step - self.patience + 1, what)
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise Fault(self.name, step, step, f"{self.faults[wrong[0]]}{more} is not finite")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Time that does not count as training."""
        began = time.perf_counter()
        with self.gauge.aside():
            yield
        self.since += time.perf_counter() - began
