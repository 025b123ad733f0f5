"""What the host adds to a training step of the demo: feeding, dispatch, logs, the progress bar.

Command:   taskset -c 0,1 python -m benchmarks.host_overhead
Hardware:  two CPU cores with nothing else on them, 2 minutes.

The real `train` loop, with a real loader and a log line every interval, and the bare compiled step on data that lie on
the device take turns of equal length. Both are timed from idle device to idle device, so the loop also pays for its
filling and draining. On CPU the host shares the cores with the device; `cpu` is the overhead in processor time, which
other programs disturb less than they do the clock. The last line is JSON.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.demo import SEED, Demo
from diorama.data import ArraySource, loader
from diorama.train import train

Clocks = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--steps", type=int, default=40, help="training steps a turn")
    options = parser.parse_args()
    demo = Demo()
    bucket = max(demo.stage.buckets, key=lambda b: b.frames)
    bare, a_turn = demo.step(bucket, demo.stage.train), options.steps * bucket.batch
    bare()
    loop, alone = [], []
    last: Clocks | None = None

    def turn_over(model: Any, examples: int, folder: Path) -> None:
        """A preview, which the loop calls on an idle device: here the bare step has its turn."""
        nonlocal last
        if last:
            loop.append(_since(last))
        began = _now()
        for _ in range(options.steps):
            bare()
        alone.append(_since(began))
        last = _now()

    config = replace(
        demo.stage.train, examples=a_turn * (options.turns + 1), log_every=a_turn, preview_every=a_turn,
        checkpoint_every=0, snapshot_every=0,
    )  # fmt: skip
    batches = loader([(ArraySource(demo.columns(bucket, 4096)), bucket.batch, 1.0)], seed=SEED)
    with tempfile.TemporaryDirectory() as folder:
        train(config, demo.init, demo.stage.objective, batches, Path(folder), seed=SEED, preview=turn_over)

    names = "seconds", "cpu"
    report: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "turns": options.turns, "steps": options.steps}
    for i, name in enumerate(names):
        ratios = sorted(a[i] / b[i] - 1 for a, b in zip(loop, alone[:-1], strict=True))
        report[name] = {
            "bare_ms": 1e3 * median(b[i] for b in alone) / options.steps,
            "overhead_percent": 100 * median(ratios),
            "quartiles": [100 * ratios[len(ratios) // 4], 100 * ratios[-1 - len(ratios) // 4]],
        }
        low, high = report[name]["quartiles"]
        print(
            f"{name:8} bare step {report[name]['bare_ms']:8.1f} ms, the loop adds "
            f"{report[name]['overhead_percent']:5.2f} % (quartiles {low:.2f} to {high:.2f})"
        )
    print(json.dumps(report))


def _now() -> Clocks:
    return time.perf_counter(), time.process_time()


def _since(then: Clocks) -> Clocks:
    now = _now()
    return now[0] - then[0], now[1] - then[1]


if __name__ == "__main__":
    main()
