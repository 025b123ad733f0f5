"""Curate with a runner, in a process of its own: `python -m tests.data.runners.program RUNNER SOURCE CATALOGUE`.

Daft lets a process choose once how it runs, and this one may be killed.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from diorama.data import curate, observe
from tests.data.runners.toy import POLICY


def processes(word: str, where: str = "cmdline") -> list[int]:
    """Live processes of whose command (or environment) `word` is part."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and word.encode() in (folder / where).read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return sorted(found)


def kill_one(word: str, started: Path) -> None:
    """Kill a new process whose name has `word` as soon as a first shard was written in `started`; say so."""
    before = set(processes(word))  # this one among them
    while not list(started.rglob("*.parquet")):
        time.sleep(0.01)
    victim = min(set(processes(word)) - before)
    os.kill(victim, signal.SIGKILL)
    print("killed", victim, flush=True)


if __name__ == "__main__":
    name, source, out, *victim = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background ignores it
    observe.SHARD = observe.LEAST = 2
    if name == "daft-ray":
        import ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    if victim:
        threading.Thread(target=kill_one, args=(victim[0], Path(out) / "observations"), daemon=True).start()
    print("hash", curate([source], out, POLICY, workers=2, runner=name).hash, flush=True)
