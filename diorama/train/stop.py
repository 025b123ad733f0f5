"""Being told to stop: SIGTERM, Ctrl-C, or the preemption of one of several processes."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.experimental import multihost_utils


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


@contextmanager
def signals() -> Iterator[list[int]]:
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


def stop_agreed(requested: list[int], steps: int) -> int:
    """The signal to stop for after this step, or 0."""
    if jax.process_count() > 1:
        return int(signal.SIGTERM) if multihost_utils.reached_preemption_sync_point(steps) else 0
    return requested[0] if requested else 0
