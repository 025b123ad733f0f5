"""The training loop: one for every objective.

The device is kept busy: while it computes a step, the host fetches the next batch and puts it on the device. Means
and marks of non-finite values stay on the device; they are read when a log line is due, one step late, and before
anything is saved. Nothing crosses between host and device unasked (`jax.transfer_guard`).
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from diorama.core.errors import UserError
from diorama.core.files import write_text
from diorama.core.layout import Layout
from diorama.core.machine import machine
from diorama.core.memory import keep_memory
from diorama.core.progress import Bar, progress
from diorama.core.random import stream
from diorama.train.checkpoint import Checkpoints, abstract
from diorama.train.log import TIMING, Log
from diorama.train.state import Objective, State, Tally, Train, fault_names
from diorama.train.step import make_step, metric_names


class Stopped(SystemExit):
    """The run was told to stop (SIGTERM, Ctrl-C) and has saved a checkpoint; exit code 128 + signal.

    Args:
        name: what was being trained.
        examples: training examples it has seen; the next start goes on from there.
        number: the signal.
    """

    def __init__(self, name: str, examples: int, number: int):
        super().__init__(128 + number)
        self.name, self.examples = name, examples


class Batches(Protocol):
    """Where batches come from: a `grain.DatasetIterator`, or anything like one.

    A batch is a dict of numpy arrays (no strings) with the same leading axis, `id` (b,) uint32 among them; in several
    processes, this process's part. Batches may have several shapes; each is compiled once. States are JSON values.
    """

    def __next__(self) -> dict[str, np.ndarray]: ...
    def get_state(self) -> Any: ...
    def set_state(self, state: Any) -> None: ...


Preview = Callable[[Any, int, Path], None]
"""`preview(model, examples, folder)`: gets the first average (the model if none is kept) and `previews/`."""


def train(
    config: Train, init: Callable[[Any], Any], objective: Objective, batches: Batches, folder: Path | str, *, seed: int,
    layout: Layout | None = None, preview: Preview | None = None, name: str = "train",
) -> State:  # fmt: skip
    """Train until `config.examples`, from the newest checkpoint in `folder` if there is one.

    Args:
        config: how to train.
        init: `init(key) -> model`, all arrays; compiled, so that the state is born in its layout.
        objective: what to minimise.
        batches: where data come from; its position is set when the run goes on from a checkpoint.
        folder: of the run; checkpoints, snapshots, previews and logs go here.
        seed: of the initial parameters and of all randomness of the objective.
        layout: of the devices; None is one device.
        preview: called every `config.preview_every` examples and at the end.
        name: what the progress bar and errors call this run.

    `machine.json` in the folder says what it was trained on, at the last start.

    Returns:
        The state at the end. It is the same, bit for bit, however often the run was stopped on the way.

    Raises:
        Stopped: after SIGTERM or Ctrl-C, once a checkpoint is saved.
        UserError: a non-finite loss or gradient (names the first bad tensor and the step; nothing from that step on is
            saved), data that run out, batches that do not divide, or a folder of another model.
    """
    keep_memory()
    folder, layout = Path(folder), layout or Layout()

    def born() -> State:
        return State.init(init(stream(seed, "init")), config)

    like = abstract(jax.eval_shape(born), layout)
    shardings = jax.tree.map(lambda x: x.sharding, like)
    with ExitStack() as stack:
        requested = stack.enter_context(_signals())
        checkpoints = stack.enter_context(closing(Checkpoints(folder, config)))
        restored = checkpoints.restore(like)
        if restored and restored.examples >= config.examples:
            if requested:
                raise Stopped(name, restored.examples, requested[0])
            return restored.state
        if restored:
            batches.set_state(restored.position)
        state = restored.state if restored else jax.jit(born, out_shardings=shardings)()
        done = restored.examples if restored else 0
        feed = _Feed(batches, layout, config, name)
        batch, position = feed.take(done)
        first = jax.process_index() == 0  # of several processes one writes
        log = stack.enter_context(closing(Log(folder, done))) if first else None
        if first:
            write_text(folder / "machine.json", json.dumps(machine()))
        meter = _Meter(log, feed, name, metric_names(objective, like.model, batch, config.roles), like.model, layout)
        tally = meter.restored(restored.tally) if restored else meter.blank
        step = make_step(config, objective, shardings, seed, layout)
        steps, before = int(state.step), tally
        bar = stack.enter_context(progress(config.examples, name, "examples", done, show=first))
        meter.start(done)

        while True:
            with jax.transfer_guard("disallow"):
                state, tally = step(state, tally, batch)
            size, reached = batch["id"].shape[0], position
            done, steps = done + size, steps + 1
            last = done >= config.examples
            if not last:
                batch, position = feed.take(done)  # while the device computes
            meter.read(bar)
            jax.block_until_ready(before.fault_step)  # at most two steps are in flight
            before = tally
            bar.advance(size)

            stop = _stop_agreed(requested, steps)
            if last or _due(config.log_every, done, size):
                meter.mark(tally, done, steps)
                tally = meter.blank
            save = last or stop or _due(config.checkpoint_every, done, size)
            show = config.preview_every and (last or _due(config.preview_every, done, size))
            keep = _due(config.snapshot_every, done, size)
            if save or show or keep:
                with meter.aside():
                    meter.read(bar)
                    meter.check(tally)
                    if keep:
                        checkpoints.snapshot(state, done)
                    if preview and show:
                        (folder / "previews").mkdir(exist_ok=True)
                        preview((*state.ema, state.model)[0], done, folder / "previews")
                    if save:
                        checkpoints.save(state, done, tally, json.loads(reached))
            if last or stop:
                checkpoints.wait()
                if stop or requested:  # told during the last preview or save: whatever would come next must not start
                    raise Stopped(name, done, stop or requested[0])
                return state


def _due(every: int, done: int, size: int) -> bool:
    """Whether the last `size` examples crossed a multiple of `every`."""
    return every > 0 and done // every != (done - size) // every


class _Feed:
    """Takes batches, checks them, puts them on the devices, and measures the wait."""

    def __init__(self, batches: Batches, layout: Layout, config: Train, name: str):
        self.batches, self.layout, self.name, self.accumulate = batches, layout, name, config.accumulate
        self.parts = layout.data * layout.fsdp
        self.waited = 0.0

    def take(self, done: int) -> tuple[dict[str, jax.Array], str]:
        """The next batch on the devices, and the position in the data (JSON) once it is used."""
        began = time.perf_counter()
        try:
            batch = next(self.batches)
        except StopIteration:
            raise UserError(f"{self.name}: the data ran out after {done:,} examples: repeat the data set") from None
        position = json.dumps(self.batches.get_state())
        self.waited += time.perf_counter() - began
        size = len(batch["id"]) * jax.process_count()
        if size % self.parts or size % self.accumulate:
            raise UserError(
                f"{self.name}: a batch of {size} does not divide over {self.parts} devices (layout.data x layout.fsdp) "
                f"and {self.accumulate} parts (train.accumulate): choose a batch size that does"
            )
        return self.layout.put(batch), position


class _Meter:
    """Reads the tally, late, into log lines, and stops the run at a non-finite value."""

    def __init__(self, log: Log | None, feed: _Feed, name: str, metrics: list[str], model: Any, layout: Layout):
        self.log, self.feed, self.name = log, feed, name
        self.faults, self.sharding = fault_names(model), layout.sharding()
        self.blank = jax.device_put(Tally.blank(metrics, len(self.faults)), self.sharding)
        self.pending: tuple[Tally, dict[str, Any]] | None = None

    def restored(self, saved: dict[str, Any]) -> Tally:
        """The tally of a checkpoint."""
        sums, weights = (
            {name: jax.device_put(np.float32(x), self.sharding) for name, x in saved[part].items()}
            for part in ("sums", "weights")
        )
        return Tally(sums, weights, self.blank.fault_step, self.blank.fault)

    def start(self, done: int) -> None:
        self.began = self.since = time.perf_counter()
        self.counted = done

    def mark(self, tally: Tally, done: int, steps: int) -> None:
        """A line is due for what `tally` holds: note the time; the numbers may not be there yet."""
        now = time.perf_counter()
        speed = (done - self.counted) / (now - self.since)
        timing = dict(zip(TIMING, (now - self.began, speed, self.feed.waited), strict=True))
        self.pending = tally, {"examples": done, "step": steps, **timing}
        self.since, self.counted, self.feed.waited = now, done, 0.0

    def read(self, bar: Bar) -> None:
        """Write the line that is due, if any."""
        if self.pending is None:
            return
        tally, line = self.pending
        self.pending = None
        self.check(tally)
        sums, weights = jax.device_get((tally.sums, tally.weights))
        line |= {k: float(sums[k] / weights[k]) if weights[k] else None for k in sums}
        bar.note(f"loss {line['loss']:.4g}")
        if self.log:
            self.log.write(line)

    def check(self, tally: Tally) -> None:
        """Raise if a value was not finite in what `tally` counts."""
        step = int(jax.device_get(tally.fault_step))
        if step < 0:
            return
        bad = np.flatnonzero(jax.device_get(tally.fault))
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise UserError(
            f"{self.name}: {self.faults[bad[0]]}{more} is not finite at step {step}; nothing from there on was saved: "
            "look at that batch, or lower train.learning_rate or train.clip_norm"
        )

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Time that does not count as training."""
        began = time.perf_counter()
        yield
        self.since += time.perf_counter() - began


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and Ctrl-C in a list instead of dying; a second Ctrl-C interrupts at once.

    With several processes SIGTERM is left to JAX's preemption service, by which all agree on the step to stop at.
    """
    requested: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield requested
        return

    def note(number: int, frame: Any) -> None:
        if number == signal.SIGINT and requested:
            raise KeyboardInterrupt
        requested.append(number)
        os.write(2, b"\nstopping after this step, with a checkpoint\n")  # print may be under way

    numbers = [signal.SIGTERM, signal.SIGINT] if jax.process_count() == 1 else []
    old = {number: signal.signal(number, note) for number in numbers}
    try:
        yield requested
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _stop_agreed(requested: list[int], steps: int) -> int:
    """The signal to stop for after this step, or 0."""
    if jax.process_count() > 1:
        return int(signal.SIGTERM) if multihost_utils.reached_preemption_sync_point(steps) else 0
    return requested[0] if requested else 0
