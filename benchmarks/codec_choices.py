"""What choices in a codec buy: equivariance, the latents' spectrum and space-to-channel shortcuts, each on and off.

Install:   python -m pip install -e .
Command:   python -m benchmarks.codec_choices DATA --out codec_choices        (DATA holds images/*_128px.parquet)
Hardware:  two CPU cores, about 2 minutes a training, 18 trainings; a run that was killed goes on with the next.

Stills at 64 x 64 with 48 times fewer numbers (8 x 8 pixels, 4 channels) and, for the shortcuts, which are made for high
compression, also 32 x 32 pixels with 64 channels, as many numbers. A seed draws the weights and the order of pictures;
the pictures held back are the same. Rows are means and standard deviations over seeds, and the difference to the plain
codec seed by seed. `error` is |E(T x) - T E(x)|^2 over the variance of E(T x), by `evaluate.equivariance`: 0 means that
latents change as pictures do; `after` the decibels of D(T E(x)) against T x; both for quarter turns and for half the
size. `modelability` is a small denoiser's loss over that of a blind one: less is better. The last line is JSON.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.codec_training import batches, fit_codec, latents_of, media_of, schedule, stills
from diorama.codec import CodecLoss, ConvCodecConfig, Patch
from diorama.codec.loss import L2, Equivariance, LatentSpectrum
from diorama.core.files import write_text
from diorama.core.memory import keep_memory
from diorama.core.module import count
from diorama.evaluate import psnr, ssim
from diorama.evaluate.latents import equivariance
from diorama.evaluate.modelability import modelability
from diorama.train import Muon

SIDE, BATCH, MODELLED = 64, 16, 1024
F8 = ConvCodecConfig(spatial=8, temporal=1, channels=4, front=Patch(2), widths=(32, 64, 64))
F32 = ConvCodecConfig(spatial=32, temporal=1, channels=64, front=Patch(2), widths=(32, 64, 64, 128, 128))


@dataclass(frozen=True)
class Choice:
    """A codec and what it is trained for; `beside` names the one that it is compared with."""

    config: ConvCodecConfig
    loss: CodecLoss
    beside: str | None = None


CHOICES = {
    "f8": Choice(F8, CodecLoss((L2(),))),
    "f8, equivariance": Choice(F8, CodecLoss((L2(), Equivariance(weight=0.5))), "f8"),
    "f8, spectrum": Choice(F8, CodecLoss((L2(), LatentSpectrum(weight=0.01))), "f8"),
    "f8, shortcuts": Choice(replace(F8, shortcuts=True), CodecLoss((L2(),)), "f8"),
    "f32": Choice(F32, CodecLoss((L2(),))),
    "f32, shortcuts": Choice(replace(F32, shortcuts=True), CodecLoss((L2(),)), "f32"),
}


def measure(choice: Choice, train: np.ndarray, held: np.ndarray, steps: int, seed: int) -> dict[str, float]:
    """Train one codec and judge it."""
    began = time.perf_counter()
    how = schedule(steps, BATCH, 4e-3, optimizer=Muon(), ema_std=())
    codec = fit_codec(choice.config, choice.loss, how, batches(train, BATCH, seed), seed)
    trained = time.perf_counter()
    there, back = partial(latents_of, codec), partial(media_of, codec)
    latents = there(held)
    again = back(latents)
    row = {"psnr": float(psnr(held, again).mean()), "ssim": float(ssim(held, again).mean())}
    for name, (error, after) in equivariance(held, latents, there, back).items():
        row |= {f"{name}: error": error, f"{name}: after": after}
    found = modelability(there(train[:MODELLED]), latents, seed=seed)
    return row | {"modelability": found.ratio, "train_s": trained - began, "judge_s": time.perf_counter() - trained}


def table(rows: dict[str, dict[str, float]], seeds: int) -> dict[str, dict[str, Any]]:
    """Mean and deviation by choice, and of the differences to what it is compared with."""
    out: dict[str, dict[str, Any]] = {}
    for name, choice in CHOICES.items():
        mine = [rows[f"{name}, seed {s}"] for s in range(seeds) if f"{name}, seed {s}" in rows]
        if len(mine) < seeds:
            continue
        out[name] = {key: _spread([row[key] for row in mine]) for key in mine[0]}
        if choice.beside:
            base = [rows[f"{choice.beside}, seed {s}"] for s in range(seeds)]
            pairs = list(zip(mine, base, strict=True))
            out[name]["beside"] = {key: _spread([a[key] - b[key] for a, b in pairs]) for key in mine[0]}
    return out


def _spread(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("codec_choices"))
    parser.add_argument("--steps", type=int, default=250, help="of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="f", help="choices whose names begin so: f8, f32")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    keep_memory()
    train, held = stills(options.data, SIDE)
    sizes = {n: count(jax.eval_shape(c.config.init, jax.random.key(0))) for n, c in CHOICES.items()}
    print(
        f"{len(train)} pictures, {len(held)} held back, {options.steps} steps of {BATCH}; parameters {sizes}",
        flush=True,
    )
    path = options.out / f"{options.steps}.json"
    rows: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
    for seed in range(options.seeds):
        for name, choice in CHOICES.items():
            key = f"{name}, seed {seed}"
            if key not in rows and name.startswith(options.only):
                rows[key] = measure(choice, train, held, options.steps, seed)
                write_text(path, json.dumps(rows, indent=1) + "\n")
                print(key, *(f"{k} {v:.3f}" for k, v in rows[key].items()), flush=True)
    found = table(rows, options.seeds)
    for name, row in found.items():
        for where, part in ((name, row), (f"{name} less {CHOICES[name].beside}", row.get("beside", {}))):
            print(f"{where:24}", *(f"{k} {v[0]:+.3f}±{v[1]:.3f}" for k, v in part.items() if k != "beside"))
    print(json.dumps({"steps": options.steps, "parameters": sizes, "table": found, "rows": rows}))


if __name__ == "__main__":
    main()
