"""Plain and magnitude-preserving U-Net on real pictures: the held-back loss after equal numbers of examples.

Install:   python -m pip install -e .
Command:   nice python -m benchmarks.magnitude --images IMAGES      (the folder of cifar10_train-*.parquet)
Hardware:  two CPU cores, a few minutes.

CIFAR-10 (A. Krizhevsky 2009) by class, in pixels scaled to `--side`. Each network with each optimiser and each of
three learning rates, cosine decay, seed 0; the best rate of each once more with the other seeds. The loss is that of
rectified flow at fixed noise and eight noise times, on 1,000 pictures that are in no batch. The last line is JSON.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow.parquet as pq

from benchmarks.planted.copies import decode
from diorama.core.module import count
from diorama.core.random import normal, stream
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import LabelConfig, MagnitudeUNetConfig, UNetConfig
from diorama.train import AdamW, Cosine, Muon
from diorama.train.constrained import projected

BATCH, HELD, STRATA, WARMUP = 32, 1000, 8, 0.05
OBJECTIVE = Denoising()
RATES = {
    ("plain", "AdamW"): (1e-3, 2e-3, 4e-3),
    ("plain", "Muon"): (2e-3, 4e-3, 8e-3),
    ("magnitude", "AdamW"): (1e-2, 2e-2, 4e-2),
    ("magnitude", "Muon"): (2e-2, 5e-2, 1e-1),
}
OPTIMIZERS = {"AdamW": AdamW(), "Muon": Muon()}


def pictures(folder: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips `(n, 1, side, side, 3)` of about unit variance, and their classes."""
    table = pq.read_table(sorted(folder.glob("cifar10_train-*.parquet"))[0])
    small = [cv2.resize(decode(d), (side, side), interpolation=cv2.INTER_AREA) for d in table["image"].to_pylist()]
    x = np.stack(small)[:, None].astype(np.float32)
    return (x - x.mean((0, 1, 2, 3))) / x.std(), table["label"].to_numpy().astype(np.int32)


class Contest:
    """One network with one optimiser; compiled once for all rates and seeds."""

    def __init__(self, config: DenoiserConfig, optimizer: Any, steps: int) -> None:
        self.config, self.steps = config, steps
        self.transform = optax.chain(optax.clip_by_global_norm(1.0), optimizer.transform())
        self.init = jax.jit(partial(config.init, channels=3))
        self.step = jax.jit(self._step, donate_argnums=(0, 1))
        self.loss = jax.jit(self._loss)

    def _step(self, model: Any, memory: Any, batch: dict, key: Any, rate: Any) -> tuple[Any, Any]:
        gradient = jax.grad(lambda m: OBJECTIVE(m, batch, key).value)(model)
        updates, memory = self.transform.update(gradient, memory, model)
        moved = optax.apply_updates(model, jax.tree.map(lambda u: -rate * u, updates))
        return projected(moved), memory  # as `train.step` does

    def _loss(self, model: Any, x0: Any, label: Any, ids: Any, tau: Any) -> Any:
        epsilon = normal(stream(0, "magnitude/held"), ids, x0.shape[1:])
        signals = model.conditions.signals({"label": label})
        return OBJECTIVE.at(model, x0, epsilon, jnp.full(x0.shape[:2], tau), signals).mean()

    def run(self, x: np.ndarray, label: np.ndarray, seed: int, rate: float) -> dict[str, float]:
        model = self.init(stream(seed, "init"))
        memory, rows = self.transform.init(model), np.random.default_rng(seed)
        total = self.steps * BATCH
        for number in range(self.steps):
            seen = number * BATCH
            pick = rows.integers(HELD, len(x), BATCH)
            ids = np.arange(seen, seen + BATCH, dtype=np.uint32)
            batch = {"media": x[pick], "label": label[pick], "id": ids}
            now = rate * min(1, (number + 1) / (WARMUP * self.steps)) * float(Cosine()(jnp.float32(seen), total))
            model, memory = self.step(model, memory, batch, stream(seed, "step", number), now)
            if number == 1:  # both are compiled
                jax.block_until_ready(model)
                start = time.process_time()
        jax.block_until_ready(model)
        seconds = (time.process_time() - start) / (self.steps - 2)
        ids, taus = np.arange(HELD, dtype=np.uint32), (np.arange(STRATA) + 0.5) / STRATA
        losses = [
            self.loss(model, x[i : i + 100], label[i : i + 100], ids[i : i + 100], tau)
            for tau in taus
            for i in range(0, HELD, 100)
        ]
        return {"loss": float(np.mean(losses)), "cpu_ms_a_step": 1e3 * seconds, "parameters": count(model.net)}


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--widths", type=int, nargs="+", default=(32, 64))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    x, label = pictures(args.images, args.side)
    rows = []
    for (kind, optimizer), rates in RATES.items():
        net = (UNetConfig if kind == "plain" else MagnitudeUNetConfig)(widths=tuple(args.widths), width=64)
        config = DenoiserConfig(net, {"label": LabelConfig(classes=10)})
        contest = Contest(config, OPTIMIZERS[optimizer], args.steps)
        found = [contest.run(x, label, 0, rate) | {"rate": rate, "seed": 0} for rate in rates]
        best = min(found, key=lambda row: row["loss"])["rate"]
        found += [contest.run(x, label, s, best) | {"rate": best, "seed": s} for s in range(1, args.seeds)]
        for row in found:
            rows.append({"net": kind, "optimizer": optimizer} | row)
            print(*(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
