"""Rollouts with a memory of keys and values, against the same without one; and long ones, that should not grow.

Install:   python -m pip install -e .
Command:   python -m benchmarks.rollout [--repeat 3] [--long 1000]
Hardware:  two CPU cores, 5 minutes with nothing else on them.

A transformer of the demo's size with random weights, causal by frame, makes 64 frames one by one, in 4 steps of
Euler's. Without a memory, every frame is denoised beside all frames before it, clean: no more of them than there are,
but for lengths rounded up to whole eights, each its own program. Both are given the same noise and must make the same
video. They take turns, and a ratio is that of the medians; the first turn compiles and is not counted. CPU seconds
stand beside those of the clock: they bear other work on the machine better.

The long rollout has a window of 16 frames. Its last line of JSON has all figures.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.core.array import Array
from diorama.core.memory import keep_memory
from diorama.core.random import stream
from diorama.diffusion import Denoiser, DenoiserConfig
from diorama.net import TransformerConfig
from diorama.net.attention import rotary
from diorama.net.places import Reach
from diorama.process.noise import Brownian
from diorama.sample import Euler, plan
from diorama.sample.rollout import Cached, per_frame, rollout
from diorama.sample.sample import descend

FRAMES, SHAPE, STEPS, EIGHT = 64, (8, 8, 8, 6), 4, 8  # frames; latents of a clip as trained on; steps; round up to
TAUS, IDS = np.linspace(1, 0, STEPS + 1), jnp.zeros(1, jnp.uint32)


def made() -> Denoiser:
    """A denoiser whose every weight is random."""
    net = TransformerConfig(reach=(Reach(future=0),))
    model = DenoiserConfig(net, {}).init(jax.random.key(0), SHAPE[-1])
    leaves, structure = jax.tree.flatten(model)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    shaken = [x + 0.02 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, shaken)


def remembering(denoiser: Denoiser) -> np.ndarray:
    """64 frames with a memory of all of them."""
    pieces = rollout(denoiser, Cached(window=FRAMES), Euler(), TAUS, IDS, SHAPE, [({}, None)], seed=0, frames=FRAMES)
    return np.concatenate([np.asarray(piece) for piece in pieces], axis=1)


@jax.jit
def _frame(denoiser: Denoiser, before: Array, known: Array) -> Array:
    """`before` (1, t, h, w, c) with frame `known` denoised beside those before it."""
    shape, noise = before.shape[1:], denoiser.process.noise
    start = per_frame(noise, stream(0, "rollout/start"), IDS, 0, shape)
    motion = Brownian(jax.random.split(jax.random.key(0), 1), shape, noise)  # Euler's steps draw nothing
    matrix, number = plan.joint(TAUS, shape[0]).astype(np.float32), jnp.arange(shape[0])
    taus = jnp.where(number < known, 0.0, jnp.where(number > known, 1.0, matrix))[:, None]
    x, _ = descend(denoiser, denoiser.process, Euler(), matrix, taus, start, motion, {}, before)
    return jnp.where((number == known)[:, None, None, None], x, before)


def forgetting(denoiser: Denoiser) -> np.ndarray:
    """64 frames, each beside all frames before it."""
    x = jnp.zeros((1, 0, *SHAPE[1:]))
    for known in range(FRAMES):
        if known == x.shape[1]:
            x = jnp.pad(x, ((0, 0), (0, EIGHT), (0, 0), (0, 0), (0, 0)))
        x = _frame(denoiser, x, jnp.int32(known))
    return np.asarray(x)


def timed(call: Callable[[], np.ndarray]) -> tuple[float, float, np.ndarray]:
    """Seconds by the clock, seconds of the CPU, and what came out."""
    clock, cpu = time.perf_counter(), time.process_time()
    found = call()
    return time.perf_counter() - clock, time.process_time() - cpu, found


def against(denoiser: Denoiser, repeat: int) -> dict[str, Any]:
    """Both in turn."""
    ways = {"with": partial(remembering, denoiser), "without": partial(forgetting, denoiser)}
    first = {name: timed(way)[2] for name, way in ways.items()}
    turns = [{name: timed(way)[:2] for name, way in ways.items()} for _ in range(repeat)]
    seconds = {name: median(turn[name][0] for turn in turns) for name in ways}
    cpu = {name: median(turn[name][1] for turn in turns) for name in ways}
    apart = float(np.abs(first["with"] - first["without"]).max())
    ratios = {"clock": seconds["without"] / seconds["with"], "cpu": cpu["without"] / cpu["with"]}
    return {"seconds": seconds, "cpu_seconds": cpu, "ratio": ratios, "apart": apart}


def grown(denoiser: Denoiser, frames: int) -> list[dict[str, float]]:
    """Time a frame and resident memory, by tenths of a long rollout."""
    pieces = rollout(denoiser, Cached(window=16), Euler(), TAUS, IDS, SHAPE, [({}, None)], seed=0, frames=frames)
    next(pieces)  # compiles
    rows, tenth = [], max(1, (frames - 1) // 10)
    for part in range(10):
        clock, cpu = time.perf_counter(), time.process_time()
        for _ in range(tenth):
            np.asarray(next(pieces))
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        each = (time.perf_counter() - clock) / tenth, (time.process_time() - cpu) / tenth
        rows.append({"frame": 1 + (part + 1) * tenth, "ms": 1e3 * each[0], "cpu_ms": 1e3 * each[1], "mb": resident})
    return rows


def astray(frame: int, width: int = 32) -> float:
    """How far a score of unit vectors a frame apart is off at `frame`, were angles to grow with its number."""
    q, k = (
        x / jnp.linalg.norm(x, axis=-1, keepdims=True)
        for x in jax.random.normal(jax.random.key(0), (2, 1, 256, 1, width))
    )

    def score(at: float) -> Array:
        return (rotary(q, jnp.array([[at + 1, 0.0, 0.0]])) * rotary(k, jnp.array([[at, 0.0, 0.0]]))).sum(-1)

    return float(jnp.abs(score(float(frame)) - score(0.0)).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--long", type=int, default=1000, help="frames of the long rollout")
    options = parser.parse_args()
    keep_memory()
    denoiser = made()
    found = against(denoiser, options.repeat)
    for name in ("with", "without"):
        print(f"{name:>8} a memory: {found['seconds'][name]:7.2f} s, {found['cpu_seconds'][name]:7.2f} s of CPU")
    print(
        f"ratio {found['ratio']['clock']:.1f} ({found['ratio']['cpu']:.1f} of CPU); apart {found['apart']:.1e}",
        flush=True,
    )
    rows = grown(denoiser, options.long)
    for row in rows:
        each = f"{row['ms']:6.1f} ms a frame ({row['cpu_ms']:.1f} of CPU)"
        print(f"to frame {row['frame']:5.0f}: {each}, {row['mb']:.0f} MB")
    off = {frame: astray(frame) for frame in (100, 1_000, 10_000)}
    print(f"angles that grow would be off by {off}")
    print(json.dumps({"turns": found, "long": rows, "astray": off, "steps": STEPS, "frames": FRAMES}))


if __name__ == "__main__":
    main()
