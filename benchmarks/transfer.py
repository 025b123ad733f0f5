"""Whether a learning rate that is best for a narrow transformer is best for wider ones: with the rule and without.

Command:   python -m benchmarks.transfer [--widths 32 64 128 256] [--steps 300] [--seeds 1] [--out FOLDER]
Hardware:  two CPU cores, 15 minutes.

The handwritten digits of scikit-learn (8 x 8, in pixels), by class; transformers of four blocks with one head per 16
channels, 64 clips a step, AdamW, a tenth of the steps of warm-up, then constant. Every width is trained at learning
rates a factor of two apart, once as it is and once told (`Widened`) that the rate is for the narrowest; the loss at
fixed noise on held-back digits is shown. The picture has a curve for each width; the last line is JSON.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grain
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from diorama.diffusion import DenoiserConfig, Denoising
from diorama.net import LabelConfig, TransformerConfig
from diorama.train import AdamW, Train, train
from diorama.train.optimizer import Widened

BATCH, HELD = 64, 360
RATES = tuple(float(2.0**i) for i in range(-11, -4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("transfer"))
    options = parser.parse_args()
    rows = []
    for width in options.widths:
        for ruled in (False, True) if width != options.widths[0] else (False,):
            for rate in RATES:
                losses = [trained(width, options.widths[0] if ruled else None, rate, options.steps, s)
                          for s in range(options.seeds)]  # fmt: skip
                rows.append({"width": width, "ruled": ruled, "rate": rate, "loss": float(np.mean(losses))})
                print(f"width {width:4d} {'with the rule' if ruled else '             '} rate 2^{np.log2(rate):g} "
                      f"loss {rows[-1]['loss']:.4f}", flush=True)  # fmt: skip
    rows += [row | {"ruled": True} for row in rows if row["width"] == options.widths[0]]
    options.out.mkdir(parents=True, exist_ok=True)
    best = {}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for ruled, axis in zip((False, True), axes, strict=True):
        for width in options.widths:
            curve = [(row["rate"], row["loss"]) for row in rows if (row["width"], row["ruled"]) == (width, ruled)]
            axis.plot(*zip(*curve, strict=True), marker=".", label=f"width {width}")
            best[f"{width}{' ruled' if ruled else ''}"] = min(curve, key=lambda c: c[1] if np.isfinite(c[1]) else 1e9)
        axis.set(xscale="log", xlabel="learning rate", title="with the rule" if ruled else "without")
    axes[0].set_ylim(top=min(1.3, axes[0].get_ylim()[1]))  # both have it; a training that broke off hides no other
    axes[0].set_ylabel("held-back loss")
    axes[0].legend()
    figure.savefig(options.out / "transfer.png", dpi=110)
    print(json.dumps({"best": best, "rows": rows}))


def trained(width: int, tuned: int | None, rate: float, steps: int, seed: int) -> float:
    """The held-back loss of one training; NaN where it broke off."""
    net = TransformerConfig(width=width, depth=4, heads=width // 16, mixing=False, previous=False)
    config = DenoiserConfig(net, {"label": LabelConfig()})
    optimizer = AdamW(width=None if tuned is None else Widened(tuned, width))
    how = Train(BATCH * steps, learning_rate=rate, warmup=BATCH * steps // 10, optimizer=optimizer, ema_std=(),
                log_every=BATCH * steps, checkpoint_every=0)  # fmt: skip
    with TemporaryDirectory() as folder:
        state = train(how, partial(config.init, channels=1), Denoising(), batches(seed), folder, seed=seed)
    return float(held_back(state.model))


def data() -> tuple[np.ndarray, np.ndarray]:
    """Digits in [-1, 1], (n, 1, 8, 8, 1), and their classes, in a fixed order."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    return np.float32(digits.images[order] / 8 - 1)[:, None, :, :, None], np.int32(digits.target[order])


MEDIA, LABELS = data()


def batches(seed: int) -> Any:
    def example(i: int) -> dict[str, Any]:
        return {"media": MEDIA[HELD + i], "label": LABELS[HELD + i], "id": np.uint32(i)}

    return iter(
        grain.MapDataset.range(len(MEDIA) - HELD)
        .shuffle(seed=seed)
        .repeat()
        .map(example)
        .to_iter_dataset()
        .batch(BATCH)
    )


@jax.jit
def held_back(model: Any) -> jax.Array:
    """The loss at one noise and five noise times each, the same for all."""
    objective, signals = Denoising(), model.conditions.signals({"label": jnp.asarray(LABELS[:HELD])})
    x0 = jnp.asarray(MEDIA[:HELD])
    epsilon = jax.random.normal(jax.random.key(0), x0.shape)
    taus = jnp.asarray([0.1, 0.3, 0.5, 0.7, 0.9])
    return jax.vmap(lambda tau: objective.at(model, x0, epsilon, jnp.full((HELD, 1), tau), signals).mean())(taus).mean()


if __name__ == "__main__":
    main()
