"""Progress bars with rate and time left, on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {task.fields['unit']}/s" if speed else "")


QUIET = 30.0  # seconds between lines in a log file


class Bar:
    """What `progress` yields: `advance` moves the bar, `note` shows a short text (a loss, say) at its end."""

    def __init__(self, bar: Progress, task: int, lines: bool):
        self._bar, self._task, self._lines, self._last = bar, task, lines, time.monotonic()

    def advance(self, count: float = 1) -> None:
        self._bar.advance(self._task, count)  # type: ignore[arg-type]

    def note(self, text: str) -> None:
        self._bar.update(self._task, note=text)  # type: ignore[arg-type]
        if self._lines and time.monotonic() - self._last >= QUIET:
            task, self._last = self._bar.tasks[0], time.monotonic()
            print(f"{task.description} {task.completed:,.0f}/{task.total:,.0f} {text}", file=sys.stderr, flush=True)


@contextmanager
def progress(total: float, what: str, unit: str = "it", done: float = 0, show: bool = True) -> Iterator[Bar]:
    """A bar named `what` that runs to `total`, counted in `unit`s, starting at `done` (a resumed run).

    On a terminal it is drawn live; in a log file it is a line at the end, and one for a note every half a minute on
    the way; with `show=False` it is neither.
    """
    live = sys.stderr.isatty()
    columns = (
        TextColumn("{task.description:<22}"), BarColumn(24), TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        _Rate(), TimeRemainingColumn(compact=True, elapsed_when_finished=True), TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    console = Console(stderr=True, width=None if live else 120)
    with Progress(*columns, console=console, refresh_per_second=4, disable=not show) as bar:
        task = bar.add_task(what, total=total, completed=int(done), unit=unit, note="")
        yield Bar(bar, task, show and not live)
