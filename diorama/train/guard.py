"""A guard of long runs: after a non-finite value or a spike, back to the last good checkpoint and past the bad batch.

Each step compares its loss and gradient norm with those of the steps before it, on the device (`Watch`, part of the
`Tally`), so nothing more is read back than without a guard: the fault is found late, and the step that it was in is
known. The run then goes on from the last checkpoint from before the fault, and leaves out all batches between that and
the one after the bad batch. It ends as a run that never met them, bit for bit.

`events.jsonl` has a line for each time, and is what makes a run that is killed afterwards go on in the same way:

    step      of the fault                       what     was wrong
    back_to   examples of the checkpoint         skipped  batches that were left out by this event
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array, Bool, Float, Int
from diorama.core.errors import UserError
from diorama.core.files import write_text
from diorama.core.module import Module, static

SIGNALS = ("loss", "gradient_norm")
SPIKES = ("the loss spikes", "the gradient norm spikes")
LEAST = 0.01  # of the median: how much values differ at least, so that a loss which hardly moves has no spikes


@dataclass(frozen=True)
class Guard:
    """What a spike is, and how often to go back.

    A loss or gradient norm spikes where it lies above q + `factor` (q - m): of the last `window` steps, m is the median
    and q the value that a share `quantile` of them stays below. So seldom buckets with a higher loss of their own are
    no spikes, where they are not too seldom.

    Args:
        times: how often the run goes back, in all; the next fault ends it.
        factor: 8 puts the limit some 18 standard deviations above a Gaussian's mean.
        quantile, window: as above; nothing is a spike in the first `window` steps.
        patience: so many steps in a row above the limit are a spike. A checkpoint saved after the first of them is not
            gone back to.
    """

    times: int = 3
    factor: float = 8.0
    quantile: float = 0.98
    window: int = 256
    patience: int = 1

    def __post_init__(self) -> None:
        if self.times < 1 or self.window < 2 or self.patience < 1 or self.factor <= 0:
            raise UserError("train.guard: times and patience are at least 1, window at least 2, and factor above 0")
        if not 0.5 < self.quantile < 1:
            raise UserError(f"train.guard.quantile is {self.quantile}: give a number between 0.5 and 1")


class Watch(Module):
    """The last values of what is watched.

    recent: a ring of `window` values of each of `SIGNALS`. seen: steps so far. above: steps in a row above the limit.
    """

    recent: Float[Array, "s window"]
    seen: Int[Array, ""]
    above: Int[Array, "s"]
    guard: Guard = static()

    @staticmethod
    def blank(guard: Guard) -> "Watch":
        """No step seen yet."""
        n = len(SIGNALS)
        return Watch(jnp.zeros((n, guard.window)), jnp.zeros((), jnp.int32), jnp.zeros(n, jnp.int32), guard)

    def look(self, values: Float[Array, "s"]) -> tuple["Watch", Bool[Array, "s"]]:
        """One step's values; which of them complete a spike. Only values up to the limit go into the ring."""
        guard, place = self.guard, self.seen % self.guard.window
        middle, high = jnp.quantile(self.recent, jnp.array([0.5, guard.quantile]), axis=-1)
        limit = high + guard.factor * jnp.maximum(high - middle, LEAST * jnp.abs(middle))
        over = (values > limit) & (self.seen >= guard.window)
        above = jnp.where(over, self.above + 1, 0)
        kept = jnp.where(jnp.isfinite(values) & ~over, values, self.recent[:, place])
        return Watch(self.recent.at[:, place].set(kept), self.seen + 1, above, guard), above >= guard.patience

    def saved(self) -> dict[str, Any]:
        """As JSON, exactly."""
        return {name: jax.device_get(getattr(self, name)).tolist() for name in ("recent", "seen", "above")}

    def restored(self, saved: dict[str, Any] | None) -> "Watch":
        """As it was saved, laid out as this one; this one where none was, or with another window."""
        if saved is None or len(saved["recent"][0]) != self.guard.window:
            return self

        def put(name: str) -> Array:
            like = getattr(self, name)
            return jax.device_put(np.asarray(saved[name], like.dtype), like.sharding)

        return Watch(put("recent"), put("seen"), put("above"), self.guard)


class Fault(UserError):
    """A value that was not finite, or a spike, at step `step`, which began at step `began`."""

    def __init__(self, name: str, step: int, began: int, what: str):
        super().__init__(
            f"{name}: {what} at step {step}; nothing from there on was saved: "
            "look at that batch, or lower train.learning_rate or train.clip_norm"
        )
        self.step, self.began, self.what = step, began, what


@dataclass(frozen=True)
class Event:
    """One time that a run went back; a line of `events.jsonl`."""

    step: int
    what: str
    back_to: int
    skipped: int


class Events:
    """The times that the run in `folder` went back, oldest first."""

    def __init__(self, folder: Path):
        self.path = folder / "events.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.all = [Event(**json.loads(line)) for line in lines]

    def go_on(self, examples: int, known: int) -> int:
        """How many batches to leave out of those that follow a checkpoint.

        examples: of the checkpoint (0: the start). known: how many events there were when it was saved. Later ones
        count up to the last that led back to it; those after that are forgotten, for they will happen again.
        """
        last = max(
            (i + 1 for i, event in enumerate(self.all) if i >= known and event.back_to == examples), default=known
        )
        if len(self.all) > last:
            self.all = self.all[:last]
            self._write()
        return sum(event.skipped for event in self.all[known:])

    def add(self, event: Event) -> None:
        """Note that the run goes back."""
        self.all.append(event)
        self._write()

    def _write(self) -> None:
        if jax.process_index() == 0:
            write_text(self.path, "".join(json.dumps(asdict(event)) + "\n" for event in self.all))
