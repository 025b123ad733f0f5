"""What `diorama plan` says that a training step holds, beside what it holds: five recipes, on CPU.

Command:   python -m benchmarks.plan_memory
Hardware:  any Linux with 4 GB of memory; 10 minutes on two cores.

Each row is measured in a process of its own, which gets its memory from the system buffer by buffer and gives it back
at once (glibc's MALLOC_MMAP_THRESHOLD_). It compiles the programs, runs a step on a state that is then let go of, so
that what is allocated once (threads, code, libraries) is there, and notes its resident size. Then it does what `train`
does: a state is born and steps are taken, the next batch being put on the device meanwhile. The highest resident size
from there on (VmHWM, reset through /proc/self/clear_refs), less the one noted, is what the step holds. Resident pages
are those that were touched: a plan also counts what lies between buffers and is never written.

Ratios are predicted / measured. The last line is JSON.
"""

import argparse
import ctypes
import gc
import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diorama.core.layout import Layout
from diorama.core.random import stream
from diorama.run.plan.compiled import buckets, memory_of, parts, shapes
from diorama.run.plan.plan import FLAGS
from diorama.train import State

RECIPES = ("digits", "emoji_text", "cifar10_class", "weizmann_action", "latent_video")
STEPS = 4
SMALL = {"latent_video": 8}  # batch sizes other than the recipe's
ALLOCATE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}


def run_of(recipe: str) -> Any:
    """The recipe's run, with its batches made small where `SMALL` says so."""
    run = importlib.import_module(f"recipes.{recipe}").recipe()
    size = SMALL.get(recipe)
    if size is None:
        return run
    codec, denoiser = (
        replace(stage, buckets=tuple(replace(bucket, batch=size) for bucket in stage.buckets))
        for stage in (run.codec, run.denoiser)
    )
    return replace(run, codec=codec, denoiser=denoiser)


def figures(recipe: str, stage: Any) -> tuple[int, int]:
    """Bytes as `diorama plan` has them for one device, and those of some steps of the same program."""
    run, layout = run_of(recipe), Layout()
    bucket = buckets(run, stage)[0]
    given = shapes(run, stage, bucket, layout, halved=False)
    train, _, init, like = parts(run, stage, bucket)
    rng = np.random.default_rng(0)

    def batch() -> Any:
        made = {
            name: rng.integers(0, 8, x.shape, x.dtype) if x.dtype.kind in "iu" else rng.random(x.shape, x.dtype)
            for name, x in like.items()
        }
        return layout.put(made)

    blank = jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding), given.tally)
    shardings = jax.tree.map(lambda x: x.sharding, given.state)
    born = jax.jit(lambda: State.init(init(stream(run.seed, "init")), train), out_shardings=shardings)
    begin, program = born.lower().compile(), given.step.func.lower(*given[1:4], **given.step.keywords).compile()

    def steps(n: int) -> None:
        state, tally, now = begin(), blank, batch()
        for _ in range(n):
            state, tally = program(state, tally, now, **given.step.keywords)
            now = batch()
            jax.block_until_ready(state)

    steps(1)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    steps(STEPS)
    return memory_of(program, given).total, _status("VmHWM") - before


def _status(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def _apart(recipe: str, stage: str) -> tuple[int, int]:
    """Both figures, by a process of its own."""
    command = [sys.executable, "-m", "benchmarks.plan_memory", "--one", recipe, stage]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS} | ALLOCATE
    said, held = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return int(said), int(held)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--recipes", nargs="+", default=RECIPES, choices=RECIPES)
    parser.add_argument("--stages", nargs="+", default=["denoiser", "codec"], choices=["denoiser", "codec"])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(*figures(*options.one))
        return
    rows = []
    print(f"{'recipe':<18}{'stage':<10}{'predicted':>12}{'measured':>12}{'ratio':>8}")
    for stage in options.stages:
        for recipe in options.recipes:
            said, held = _apart(recipe, stage)
            print(f"{recipe:<18}{stage:<10}{said / 1e6:>9.1f} MB{held / 1e6:>9.1f} MB{said / held:>8.3f}", flush=True)
            rows.append({"recipe": recipe, "stage": stage, "predicted": said, "measured": held})
    print(json.dumps({"rows": rows, "steps": STEPS}))


if __name__ == "__main__":
    main()
