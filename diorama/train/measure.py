"""What training takes: operations, time by what the host does with it, memory; and a profile of some steps on request.

Model FLOPs are those of the loss and its gradient (`core/flops.py`): what is computed once more to save memory, the
optimiser, averages and metrics do not count, so utilisation says how much of the machine goes into what must be done.

The host's time is one of these: waiting for data (while the device may still compute), sending a step off, waiting for
the device, and aside (saving, previews, validation). Where the wait for the device is near zero, an accelerator waits
for the host. On a CPU a step is computed where it is sent off (`core/memory.py`), and the wait is always near zero.
"""

import math
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from diorama.core.array import Array
from diorama.core.chips import of_device
from diorama.core.flops import flops
from diorama.core.layout import Layout
from diorama.core.random import stream
from diorama.train.state import Objective, Scheduled, Train, join, split

WARM = 4  # steps before a profile: compilation, and what the first ones fetch
TRACE = "trace"


def model_flops(config: Train, objective: Objective, model: Any, batch: dict[str, Any]) -> float:
    """FLOPs of the loss and its gradient for a batch; model and batch may be shapes."""
    trained, rest = split(model)

    def loss(trained: Any, rest: Any, batch: dict[str, Array], examples: Array) -> Array:
        now = objective.after(examples) if isinstance(objective, Scheduled) else objective
        places = jnp.zeros(batch["id"].shape, jnp.float32)
        return now(config.policy.enter(join(trained, rest)), batch | {"place": places}, stream(0, "objective")).value

    shapes = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in batch.items()}
    return flops(loss, trained, rest, shapes, jax.ShapeDtypeStruct((), jnp.uint32), gradient=True)


def peak_memory() -> int:
    """Bytes at most so far: of the fullest device of this process; of the process itself where devices do not say."""
    told = [device.memory_stats() for device in jax.local_devices()]
    peaks = [stats["peak_bytes_in_use"] for stats in told if stats and "peak_bytes_in_use" in stats]
    unit = 1 if sys.platform == "darwin" else 1024  # <sys/resource.h>
    return max(peaks) if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Gauge:
    """Counts and times the steps of one training.

    Args:
        config, objective, layout: as of `train`.
        model: its shapes.
        folder: where a profile goes, `config.trace` steps long.
        name: what messages call the training.
    """

    def __init__(self, config: Train, objective: Objective, model: Any, layout: Layout, folder: Path, name: str):
        self._flops = lambda batch: model_flops(config, objective, model, batch)
        self._known: dict[tuple, float] = {}
        chip, devices = of_device(jax.local_devices()[0]), layout.mesh.devices.size
        self._peak = chip and devices * chip.peak(config.policy.compute)
        self._measured = chip is not None and chip.name == "cpu"
        self._profile = Profile(config.trace, folder / TRACE, name)
        self.begin()

    def begin(self) -> None:
        """Count anew."""
        self._work = self._cells = 0.0
        self._spent = dict.fromkeys(("dispatch", "device", "aside"), 0.0)

    @contextmanager
    def step(self, batch: dict[str, jax.Array], number: int) -> Iterator[None]:
        """Around the sending off of a step."""
        self._profile.begin()
        with self._timed("dispatch"), jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield
        shape = tuple((k, x.shape, x.dtype) for k, x in sorted(batch.items()))
        if shape not in self._known:
            self._known[shape] = self._flops(batch)  # while an accelerator computes
        self._work += self._known[shape]
        self._cells += math.prod(batch["media"].shape[:-1]) if "media" in batch else 0

    def wait(self, result: Array) -> None:
        """Until `result`, of the step before the last, is there."""
        with self._timed("device"):
            jax.block_until_ready(result)
        self._profile.end()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Around what is not training."""
        with self._timed("aside"):
            yield

    def read(self, seconds: float) -> dict[str, float | None]:
        """The fields of a log line (`log.TIMING`) for what was done since the last, in `seconds` without what was
        aside; counting begins anew."""
        rate = self._work / seconds
        share = rate / self._peak if self._peak else None
        if share and share > 1 and self._measured:
            share = None  # the peak was measured while the machine was busy
        line = {
            **{f"{part}_seconds": spent for part, spent in self._spent.items()},
            "cells_per_second": self._cells / seconds or None,
            "flops_per_second": rate,
            "utilisation": share,
            "memory_bytes": peak_memory(),
        }
        self.begin()
        return line

    def close(self) -> None:
        self._profile.close()

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._spent[part] += time.perf_counter() - began


class Profile:
    """A profile of some steps by JAX's profiler, begun after `WARM` others; none if `steps` is 0."""

    def __init__(self, steps: int, folder: Path, name: str):
        self.steps, self.folder, self.name = steps, folder, name
        self._begun = 0  # steps
        self._running = False

    def begin(self) -> None:
        """A step begins."""
        if self.steps and self._begun == WARM:
            jax.profiler.start_trace(self.folder, create_perfetto_trace=True)
            self._running = True
        self._begun += 1

    def end(self) -> None:
        """All steps but the last one begun are done."""
        if self._running and self._begun > WARM + self.steps:
            self._stop(self.steps)

    def close(self) -> None:
        """Training ends, or breaks off."""
        if self._running:
            self._stop(self._begun - WARM)
        elif self.steps and self._begun <= WARM:
            self._say(f"no trace was written, for that begins after {WARM} steps and there were {self._begun}")

    def _stop(self, steps: int) -> None:
        jax.profiler.stop_trace()
        self._running, self.steps = False, 0
        path = max(self.folder.glob("**/perfetto_trace.json.gz"), key=lambda path: path.stat().st_mtime)
        self._say(
            f"a trace of {steps} steps: open {path} at https://ui.perfetto.dev, or, with xprof installed, see it by "
            f"tensorboard --logdir {self.folder}"
        )

    def _say(self, text: str) -> None:
        if jax.process_index() == 0:
            print(f"diorama: {self.name}: {text}", file=sys.stderr, flush=True)  # no warning: those are filtered
