"""A tiny model, objective and data set for tests of the trainer; also a program, `python -m tests.train.toy FOLDER`."""

import argparse
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np

from diorama.core import Layout, Module
from diorama.core.array import Array, Key
from diorama.core.random import normal
from diorama.train import Cosine, Guard, Loss, Train, train

INPUTS, OUTPUTS, WIDTH = 16, 8, 64
TRUTH = np.random.default_rng(0).normal(size=(INPUTS, OUTPUTS)).astype(np.float32)


class Net(Module):
    """Two layers, and an integer array that is not trained."""

    inner: Array
    outer: Array
    bias: Array
    counts: Array

    @staticmethod
    def init(key: Key) -> "Net":
        a, b = jax.random.split(key)
        inner = jax.random.normal(a, (INPUTS, WIDTH)) / INPUTS**0.5
        outer = jax.random.normal(b, (WIDTH, OUTPUTS)) / WIDTH**0.5
        return Net(inner, outer, jnp.zeros(OUTPUTS), jnp.arange(3))

    def __call__(self, x: Array) -> Array:
        return jnp.tanh(x.astype(self.inner.dtype) @ self.inner) @ self.outer + self.bias


class Regression(Module):
    """Mean squared error under input noise; holds an array, as an objective with a frozen codec would."""

    noise: Array

    def __call__(self, model: Any, batch: dict[str, Array], key: Key) -> Loss:
        noisy = batch["x"] + self.noise * normal(key, batch["id"], (INPUTS,))
        error = jnp.square(model(noisy).astype(jnp.float32) - batch["y"]).mean(-1)
        return Loss(error.mean(), {"worst": error.max(), "first": jnp.where(batch["id"] == 0, error, jnp.nan).mean()})


OBJECTIVE = Regression(np.array(0.1, np.float32))


def example(i: int) -> dict[str, np.ndarray]:
    x = np.random.default_rng(i).normal(size=INPUTS).astype(np.float32)
    return {"id": np.uint32(i), "x": x, "y": np.tanh(x @ TRUTH)}


def data(batch: int = 16, size: int = 256, host: int = 0, hosts: int = 1) -> Iterator[dict[str, np.ndarray]]:
    """Shuffled, repeated batches; host `host` gets every `hosts`-th example of each."""
    examples = grain.MapDataset.range(size).shuffle(seed=1).repeat()[host::hosts].map(example)
    return iter(examples.to_iter_dataset(grain.ReadOptions(num_threads=1)).batch(batch // hosts))


class Spoiled:
    """Batches, of which the ones at these places hold values that are not finite."""

    def __init__(self, batches: Any, places: list[int]):
        self.batches, self.places, self.at = batches, places, 0

    def __next__(self) -> dict[str, np.ndarray]:
        batch = next(self.batches)
        self.at += 1
        return batch | {"y": batch["y"] + np.float32(np.nan)} if self.at - 1 in self.places else batch

    def get_state(self) -> Any:
        return {"at": self.at, "inner": self.batches.get_state()}

    def set_state(self, state: Any) -> None:
        self.at = state["at"]
        self.batches.set_state(state["inner"])


class Stopping:
    """Batches on whose way this process is told to stop."""

    def __init__(self, batches: Any, examples: int):
        self.batches, self.examples = batches, examples
        self.get_state, self.set_state = batches.get_state, batches.set_state

    def __next__(self) -> dict[str, np.ndarray]:
        batch = next(self.batches)
        self.examples -= len(batch["id"])
        if self.examples <= 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return batch


def config(examples: int, guard: Guard | None = None) -> Train:
    """Intervals that fall at different moments."""
    return Train(
        examples=examples, learning_rate=3e-3, warmup=256, decay=Cosine(), ema_std=(0.05, 0.1),
        log_every=160, checkpoint_every=352, snapshot_every=1024, preview_every=1024, guard=guard,
    )  # fmt: skip


def preview(model: Net, examples: int, folder: Path) -> None:
    (folder / f"{examples}.txt").write_text(repr(jnp.sum(model.inner).item()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--examples", type=int, default=4096)
    parser.add_argument("--layout", type=int, nargs="+", default=(1,), help="sizes: data, fsdp, tensor, sequence")
    parser.add_argument("--stop", type=int, help="tell the run to stop once so many examples were handed out")
    parser.add_argument("--process", type=int, nargs=2, metavar=("INDEX", "PORT"), help="one of two processes")
    parser.add_argument("--bad", type=int, nargs="*", help="batches that are not finite, which a guard leads past")
    args = parser.parse_args()
    if args.process:
        index, port = args.process
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=index)
    layout = replace(Layout(*args.layout), smallest=64)
    show = None if args.process else preview
    given = data(**layout.share._asdict())
    batches = Spoiled(given, args.bad) if args.bad else Stopping(given, args.stop) if args.stop else given
    how = config(args.examples, Guard() if args.bad else None)
    train(how, Net.init, OBJECTIVE, batches, args.folder, seed=0, layout=layout, preview=show)


if __name__ == "__main__":
    main()
