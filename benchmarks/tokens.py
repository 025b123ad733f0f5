"""How a training step's time grows with the number of tokens, beside what `diorama plan` predicts.

Command:   taskset -c 0,1 python -m benchmarks.tokens [--sides 8 16 24 32 48 64] [--out FOLDER]
Hardware:  two CPU cores with nothing else on them, 5 minutes.

A transformer on the pixels of one clip, each a token: a frame with a side of 64 has 4,096. The prediction is the plan's
roofline on this machine as measured at the start, with products at the speed of one of 1,024 x 1,024: a least time.
Where a step grows as predicted, its ratio to that stays the same. Lengths take turns. The picture has both curves; the
last line is JSON.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np

from diorama.codec import PixelCodecConfig
from diorama.core.chips import cpu
from diorama.core.layout import Layout
from diorama.core.memory import keep_memory
from diorama.core.random import stream
from diorama.diffusion import DenoiserConfig
from diorama.net import TransformerConfig
from diorama.run import Bucket, CodecStage, DenoiserStage, Run
from diorama.run.plan.compiled import Job, compiled, parts, shapes
from diorama.run.plan.roofline import seconds
from diorama.train import AdamW, State, Train


def run(sides: list[int], width: int, depth: int, frames: int) -> Run:
    """A bucket for each side, one clip a step."""
    net = TransformerConfig(width=width, depth=depth, heads=width // 64, patch=(1, 1, 1), text="none", mixing=False,
                            previous=False)  # fmt: skip
    stage = DenoiserStage(
        denoiser=DenoiserConfig(net, {}),
        buckets=tuple(Bucket(frames=frames, height=side, width=side, batch=1) for side in sides),
        train=Train(1_000_000, optimizer=AdamW(), learning_rate=1e-4),
    )
    return Run(name="tokens", codec=CodecStage(PixelCodecConfig()), denoiser=stage)


def step(what: Run, number: int) -> Any:
    """A call that takes one step on a batch of a bucket and waits for it."""
    layout, bucket = Layout(), what.denoiser.buckets[number]
    given = shapes(what, "denoiser", bucket, layout, halved=False)
    train, _, init, like = parts(what, "denoiser", bucket)
    rng = np.random.default_rng(0)
    batch = layout.put({k: rng.random(x.shape, x.dtype) if x.dtype.kind == "f" else np.zeros(x.shape, x.dtype)
                        for k, x in like.items()})  # fmt: skip
    tally = jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding), given.tally)
    shardings = jax.tree.map(lambda x: x.sharding, given.state)
    born = jax.jit(lambda: State.init(init(stream(what.seed, "init")), train), out_shardings=shardings)
    held = [born(), tally]

    def call() -> None:
        held[:] = given.step(held[0], held[1], batch)
        jax.block_until_ready(held)

    return call


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[8, 16, 24, 32, 48, 64])
    parser.add_argument("--frames", type=int, default=1)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("tokens"))
    options = parser.parse_args()
    keep_memory()  # as training does
    chip, what = cpu(), run(options.sides, options.width, options.depth, options.frames)
    print(f"this machine: {chip.float32 / 1e9:.0f} GFLOP/s, {chip.bandwidth / 1e9:.0f} GB/s")
    found = [
        compiled(what, Job("denoiser", i, dict.fromkeys(("data", "fsdp", "tensor", "sequence"), 1)), node=1,
                 halved=False)
        for i in range(len(options.sides))
    ]  # fmt: skip
    calls = [step(what, i) for i in range(len(options.sides))]
    for call in calls:
        call()
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(options.rounds):
        for call, each in zip(calls, taken, strict=True):
            began = time.perf_counter()
            call()
            each.append(time.perf_counter() - began)
    rows = []
    for side, each, known in zip(options.sides, taken, found, strict=True):
        said, took = seconds(known, chip, 1, "float32").total, statistics.median(each)
        rows.append(
            {"tokens": options.frames * side * side, "gflop": known.done / 1e9, "predicted": said, "measured": took,
             "least": min(each), "ratio": took / said}
        )  # fmt: skip
    print(f"{'tokens':>8}{'GFLOP':>9}{'predicted':>11}{'measured':>10}{'ratio':>7}{'growth as predicted':>22}")
    for row in rows:
        grown = row["ratio"] / rows[0]["ratio"]
        print(f"{row['tokens']:>8}{row['gflop']:>9.1f}{1e3 * row['predicted']:>8.0f} ms{1e3 * row['measured']:>7.0f} ms"
              f"{row['ratio']:>7.2f}{grown:>22.2f}")  # fmt: skip
    options.out.mkdir(parents=True, exist_ok=True)
    figure, axis = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    tokens = [row["tokens"] for row in rows]
    axis.loglog(tokens, [row["measured"] for row in rows], marker="o", label="measured")
    axis.loglog(tokens, [row["predicted"] for row in rows], marker=".", linestyle="--", label="predicted, the least")
    axis.set(xlabel="tokens", ylabel="seconds a training step")
    axis.legend()
    figure.savefig(options.out / "tokens.png", dpi=110)
    print(json.dumps({"width": options.width, "depth": options.depth, "rows": rows}))


if __name__ == "__main__":
    main()
