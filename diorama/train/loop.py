"""The training loop: one for every objective.

The device is kept busy: while it computes a step, the host fetches the next batch and puts it on the device. Means
and marks of non-finite values stay on the device; they are read when a log line is due, one step late, and before
anything is saved. Nothing crosses between host and device unasked (`jax.transfer_guard`).
"""

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import jax

from diorama.core.errors import UserError
from diorama.core.files import write_text
from diorama.core.layout import Layout
from diorama.core.machine import machine
from diorama.core.memory import keep_memory
from diorama.core.progress import progress
from diorama.core.random import stream
from diorama.train.board import Board
from diorama.train.checkpoint import Checkpoints, abstract
from diorama.train.feed import Batches, Feed
from diorama.train.guard import Event, Events, Fault
from diorama.train.log import Log, read_log
from diorama.train.measure import Gauge
from diorama.train.meter import Meter
from diorama.train.state import Objective, State, Train
from diorama.train.step import make_step, metric_names
from diorama.train.stop import Stopped, signals, stop_agreed
from diorama.train.validation import Held, Validation

Preview = Callable[[Any, int, Path], None]
"""`preview(model, examples, folder)`: gets the first average (the model if none is kept) and `previews/`."""


def train(
    config: Train, init: Callable[[Any], Any], objective: Objective, batches: Batches, folder: Path | str, *, seed: int,
    layout: Layout | None = None, preview: Preview | None = None, held: Held | None = None, name: str = "train",
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
        held: what `config.validate` measures.
        name: what the progress bar and errors call this run.

    `machine.json` in the folder says what it was trained on, at the last start.

    Returns:
        The state at the end. It is the same, bit for bit, however often the run was stopped on the way.

    Raises:
        Stopped: after SIGTERM or Ctrl-C, once a checkpoint is saved.
        UserError: a non-finite loss or gradient (names the first bad tensor and the step; nothing from that step on is
            saved) that no `config.guard` leads past, a checkpoint that the disk does not keep, data that run out,
            batches that do not divide, or a folder of another model.
    """
    if config.validate and held is None:
        raise UserError(f"{name}: nothing is held back from it to validate on: set its train.validate to None")
    keep_memory()
    folder, layout = Path(folder), layout or Layout()

    def born() -> State:
        return State.init(init(stream(seed, "init")), config)

    like = abstract(jax.eval_shape(born), layout)
    shardings = jax.tree.map(lambda x: x.sharding, like)
    step, start = make_step(config, objective, shardings, seed, layout), batches.get_state()
    how = config.validate
    validation = Validation(how, held, config.policy, seed, layout) if how and held else None
    first = jax.process_index() == 0  # of several processes one writes
    events, feed = Events(folder), Feed(batches, layout, config.accumulate, name)
    gauge = Gauge(config, objective, like.model, layout, folder, name)

    def go_on(stack: ExitStack) -> State:
        """From the newest checkpoint to the end, or to a fault."""
        restored = checkpoints.restore(like)
        done = restored.examples if restored else 0
        if restored and done >= config.examples:
            if requested:
                raise Stopped(name, done, requested[0])
            return restored.state
        batches.set_state(restored.position if restored else start)
        feed.skip(events.go_on(done, restored.events if restored else 0), done)
        state = restored.state if restored else jax.jit(born, out_shardings=shardings)()
        batch, position = feed.take(done)
        logs: list[Log | Board] = [stack.enter_context(closing(Log(folder, done)))] if first else []
        if first and config.wandb:
            logs += [stack.enter_context(closing(Board(config.wandb, folder, config, read_log(folder))))]
        if first:
            write_text(folder / "machine.json", json.dumps(machine()))
        metrics = metric_names(objective, like.model, batch, config.roles)
        meter = Meter(logs, feed, gauge, name, metrics, like.model, layout, config.guard)
        tally = meter.restored(restored.tally) if restored else meter.blank
        steps, before = int(state.step), tally
        bar = stack.enter_context(progress(config.examples, name, "examples", done, show=first))
        meter.start(done)

        while True:
            with gauge.step(batch, steps), jax.transfer_guard("disallow"):
                state, tally = step(state, tally, batch)
            size, reached = batch["id"].shape[0], position
            done, steps = done + size, steps + 1
            last = done >= config.examples
            if not last:
                batch, position = feed.take(done)  # while an accelerator computes
            meter.read(bar)
            gauge.wait(before.fault_step)  # at most two steps are in flight on an accelerator
            before = tally
            bar.advance(min(size, config.examples - (done - size)))  # the last batch may reach beyond the end

            stop = stop_agreed(requested, steps)
            look = validation if how and (last or _due(how.every, done, size)) else None
            if last or look or _due(config.log_every, done, size):
                tally = meter.mark(tally, done, steps)
            due = _due(config.checkpoint_every, done, size)
            save = last or stop or due
            show = config.preview_every and (last or _due(config.preview_every, done, size))
            keep = _due(config.snapshot_every, done, size)
            if save or show or keep or look:
                with meter.aside():
                    averaged = (*state.ema, state.model)[0]
                    meter.read(bar, look(averaged) if look else {})
                    meter.check(tally)
                    if keep:
                        checkpoints.snapshot(state, done)
                    if preview and show:
                        (folder / "previews").mkdir(exist_ok=True)
                        preview(averaged, done, folder / "previews")
                    if save:
                        checkpoints.save(state, done, tally, json.loads(reached), due=due, events=len(events.all))
            if last or stop:
                checkpoints.wait()
                if stop or requested:  # told during the last preview or save: whatever would come next must not start
                    raise Stopped(name, done, stop or requested[0])
                return state

    with signals() as requested, closing(gauge), closing(Checkpoints(folder, config)) as checkpoints:
        while True:
            try:
                with ExitStack() as stack:
                    return go_on(stack)
            except Fault as found:
                if config.guard is None:
                    raise
                fault = found.with_traceback(None)  # whose frames hold the state
            if len(events.all) >= config.guard.times:
                raise UserError(f"{fault}; it had gone back {config.guard.times} times before (events.jsonl)") from None
            examples, steps = checkpoints.roll_back(fault.began)
            events.add(Event(fault.step, fault.what, examples, fault.step + 1 - steps))
            if first:
                print(f"diorama: {name}: {fault.what} at step {fault.step}: back to {examples:,} examples, and past "
                      f"{fault.step + 1 - steps} batches", file=sys.stderr, flush=True)  # fmt: skip


def _due(every: int, done: int, size: int) -> bool:
    """Whether the last `size` examples crossed a multiple of `every`."""
    return every > 0 and done // every != (done - size) // every
