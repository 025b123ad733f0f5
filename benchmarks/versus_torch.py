"""Denoisers against the same networks in PyTorch: one training step, and 20-step guided sampling, of the demo.

Install:   python -m pip install -e . 'torch==2.13.0'     (without a GPU: PyTorch's "cpu" wheel)
Command:   taskset -c 0,1 python -m benchmarks.versus_torch
Hardware:  two CPU cores with nothing else on them, 6 minutes; a C++ compiler for torch.compile.

The demo's U-Net, and a transformer in its place. Both sides use all cores that the process may. First the parameters
are copied over, and outputs, gradients and samples must agree. Then contenders take turns, a few repetitions each, of
which the first is not counted; a ratio is the contender's median time over ours: above 1, Diorama is faster. The last
line is JSON.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.demo import SEED, Demo
from benchmarks.torch_denoiser import Denoiser, Trainer, euler
from diorama.core.module import paths
from diorama.core.random import normal, stream
from diorama.net import TransformerConfig
from diorama.net.condition import Signal
from diorama.run import Bucket
from diorama.train import AdamW

Call = Callable[[], Any]
OURS, STEPS = "diorama", 20


class Pair:
    """Both denoisers with equal parameters, and a batch of one bucket."""

    def __init__(self, demo: Demo, bucket: Bucket):
        self.demo, self.bucket = demo, bucket
        self.batch = demo.batch(bucket)
        self.x0, self.ids = (torch.from_numpy(np.array(self.batch[name])) for name in ("media", self._signal))

    @property
    def _signal(self) -> str:
        return next(iter(self.demo.stage.denoiser.conditions))

    def theirs(self, tree: Any = None) -> Denoiser:
        """PyTorch's denoiser with our parameters, or with another tree like them."""
        other = Denoiser(self.demo.stage.denoiser, self.x0.shape[-1])
        other.load({path: np.asarray(x) for path, x in paths(tree or self.demo.model).items()})
        return other

    def differences(self) -> dict[str, float]:
        """Largest differences, of the output itself, and of loss, gradients and samples relative to their size."""
        b, t = self.x0.shape[:2]
        ours, theirs, objective = self.demo.model, self.theirs(), self.demo.stage.objective
        key = jax.random.key(SEED)
        epsilon, tau = jax.random.normal(key, self.x0.shape), jax.random.uniform(key, (b, t), minval=0.02)
        present = jnp.arange(b) % 4 > 0
        signals = {self._signal: Signal(self.batch[self._signal], present)}
        noise, times, given = (torch.from_numpy(np.array(x)) for x in (epsilon, tau, present))

        at = ours.process.at(tau, 5)
        velocity = jax.jit(lambda m, x: m(x, tau, signals).to("velocity", at))(ours, self.batch["media"])
        with torch.no_grad():
            again = theirs(self.x0, times, *theirs.text(self.ids, given)).numpy()
        output = np.abs(velocity - again).max()

        loss, gradient = jax.jit(
            jax.value_and_grad(lambda m: objective.at(m, self.batch["media"], epsilon, tau, signals).mean())
        )(ours)
        value = theirs.loss(self.x0, self.ids, noise, times, given)
        value.backward()
        pairs = list(zip(theirs.parameters(), self.theirs(gradient).parameters(), strict=True))
        gradients = max(_relative(p.grad, expected.detach()) for p, expected in pairs)
        samples = _relative(torch.from_numpy(np.array(self.draw(4)())), self._euler(4, compiled=False)())
        loss_difference = abs(value.item() / float(loss) - 1)
        return {"output": float(output), "loss": loss_difference, "gradient": gradients, "samples": samples}

    def steps(self, kinds: dict[str, bool]) -> dict[str, Call]:
        """One training step; by AdamW on both sides, which PyTorch has fused."""
        stage = self.demo.stage
        config, dropout = replace(stage.train, optimizer=AdamW()), stage.denoiser.conditions[self._signal].dropout
        calls: dict[str, Call] = {OURS: self.demo.step(self.bucket, config)}
        for name, compiled in kinds.items():
            trainer = Trainer(self.theirs(), config, stage.objective, dropout, compiled)
            calls[name] = partial(trainer.step, self.x0, self.ids)
        return calls

    def samplers(self, kinds: dict[str, bool]) -> dict[str, Call]:
        """One batch of latents."""
        return {OURS: self.draw(STEPS)} | {name: self._euler(STEPS, compiled) for name, compiled in kinds.items()}

    def draw(self, steps: int) -> Call:
        """Ours: `steps` of Euler, waited for."""
        draw = self.demo.sampler(steps, tuple(self.x0.shape[1:]))
        call = partial(draw, self.demo.model, self.batch["id"], {self._signal: self.batch[self._signal]})
        return lambda: jax.block_until_ready(call())

    def _euler(self, steps: int, compiled: bool) -> Call:
        model = self.theirs().eval()
        forward = torch.compile(model) if compiled else model
        start = np.array(normal(stream(SEED, "sample/start"), self.batch["id"], tuple(self.x0.shape[1:])))
        taus, scale = self.demo.taus(steps).tolist(), self.demo.scale
        euler(model, model, torch.from_numpy(start), self.ids, taus[:2], scale)  # positions: torch.compile fails there
        return lambda: euler(forward, model, torch.from_numpy(start), self.ids, taus, scale)


def _relative(a: Any, b: Any) -> float:
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-3))


def take_turns(contenders: dict[str, Call], rounds: int, repeat: int) -> dict[str, list[float]]:
    """Seconds of every counted call."""
    for call in contenders.values():
        call(), call()  # compile
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            call()  # wakes this side's threads
            for _ in range(repeat):
                began = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - began)
    return times


def begin(about: str | None) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The options of a comparison, and what its report begins with; gives PyTorch all the process's cores."""
    parser = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=8, help="turns of each contender")
    parser.add_argument("--repeat", type=int, default=5, help="counted repetitions a turn")
    parser.add_argument("--eager-only", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    machine = {"cores": cores, "processor": processor(), "jax": jax.__version__, "torch": torch.__version__}
    print(*(f"{name} {value}," for name, value in machine.items()), f"load {os.getloadavg()[0]:.1f}")
    return options, dict(machine, seed=SEED, rounds=options.rounds, repeat=options.repeat)


def main() -> None:
    options, report = begin(__doc__)
    kinds = {"torch eager": False} if options.eager_only else {"torch eager": False, "torch compiled": True}
    demos = {"U-Net": Demo(), "transformer": Demo(TransformerConfig())}
    for net, bucket in product(demos, demos["U-Net"].stage.buckets):
        pair = Pair(demos[net], bucket)
        shape = "x".join(map(str, pair.x0.shape))
        differences = pair.differences()
        print(f"{net}, {shape}: differ by", *(f"{name} {value:.0e}," for name, value in differences.items()))
        if max(differences.values()) > 1e-4:
            raise SystemExit("the two networks are not the same")
        work = {f"{net}, step, {shape}": pair.steps(kinds)}
        if bucket.frames > 1:
            work[f"{net}, {STEPS}-step sampling, {shape}"] = pair.samplers(kinds)
        for what, contenders in work.items():
            report[what] = compare(what, take_turns(contenders, options.rounds, options.repeat))
    print(json.dumps(report))


def compare(what: str, times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Prints each contender's median and least, and what they are of ours; the same numbers."""
    print(f"{what:40}{'median ms':>12}{'min ms':>10}{'ratio':>8}{'of min':>8}")
    rows = {}
    for name, ts in times.items():
        middle, least = median(ts), min(ts)
        ratio, ratio_of_min = middle / median(times[OURS]), least / min(times[OURS])
        print(f"  {name:38}{1e3 * middle:12.1f}{1e3 * least:10.1f}{ratio:8.2f}{ratio_of_min:8.2f}")
        numbers = {"median_ms": 1e3 * middle, "min_ms": 1e3 * least, "ratio": ratio, "ratio_of_min": ratio_of_min}
        rows[name] = {k: round(v, 3) for k, v in numbers.items()}
    return rows


def processor() -> str:
    """Its name, as the system says it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return (names or [platform.processor()])[0]


if __name__ == "__main__":
    main()
