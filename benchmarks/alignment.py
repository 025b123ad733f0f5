"""What terms on a denoiser's own features buy: none, REPA, dispersive, self-alignment, iREPA, at equal examples.

Install:   python -m pip install -e .
Command:   python -m benchmarks.alignment DATA/images/cifar10_train-00-of-05.parquet --out alignment
Hardware:  two CPU cores, about 2 minutes a training; a run that was killed goes on.

CIFAR-10 at 16 x 16 by class in pixels, one shard, a transformer of 4 blocks; the encoder of REPA and iREPA is fitted to
the same pictures (`OwnPlaces`). The initial denoiser, the batches and their noise are the same for all. `loss` is the
denoising loss at fixed noise on held-back pictures, without terms. `FD` and `class` are of samples by one classifier,
as `diorama evaluate` has them. `probe` is how often a linear (ridge) classifier of the aligned block's features at
tau = 0.3, a mean over places, is right on held-back pictures. `step` is the time of a training step beside that without
terms: the median of rounds in which all take turns. The last line is JSON.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diorama.codec import PixelCodecConfig
from diorama.core import random
from diorama.core.memory import keep_memory
from diorama.data import Catalogue, curate
from diorama.data.embed.dense import OwnPlaces
from diorama.diffusion import DenoiserConfig, Denoising
from diorama.diffusion.align import IREPA, REPA, Aligned, Dispersive, SelfAlignment
from diorama.evaluate import generation_scores, label_score, multi_hot
from diorama.net import LabelConfig, TransformerConfig
from diorama.net.features import layers
from diorama.run import Bucket, CodecStage, DenoiserStage, Evaluation, Generator, Run, Sampling, train_run
from diorama.run.evaluate import examples_and_judge
from diorama.sample import ClassifierFree
from diorama.train import Cosine, Muon, Train

LAYER, BATCH, SIDE = 1, 64, 16
TERMS: dict[str, tuple[Any, ...]] = {
    "none": (),
    "REPA": (REPA(LAYER),),
    "dispersive": (Dispersive(LAYER),),
    "self-alignment": (SelfAlignment(LAYER, 3),),
    "iREPA": (IREPA(LAYER),),
}


def run_of(name: str, examples: int, seed: int) -> Run:
    """The run with the terms of this name."""
    terms = TERMS[name]
    net = TransformerConfig(width=64, depth=4, heads=4, patch=4)
    return Run(
        name=name,
        seed=seed,
        codec=CodecStage(PixelCodecConfig()),
        denoiser=DenoiserStage(
            DenoiserConfig(net, {"label": LabelConfig(classes=10)}),
            buckets=(Bucket(height=SIDE, width=SIDE, batch=BATCH),),
            train=Train(examples=examples, optimizer=Muon(), learning_rate=4e-3, warmup=1_600, decay=Cosine(),
                        log_every=3_200),
            align=terms,
            features=OwnPlaces() if any(term.target for term in terms) else None,
        ),
        sampling=Sampling(steps=10, guidance=ClassifierFree(1.5), batch=64),
        evaluation=Evaluation(samples=512, classifier_steps=1_000),
    )  # fmt: skip


@jax.jit
def held_back_loss(model: Any, x0: Any, labels: Any) -> Any:
    """The loss of each of these pictures, at noise that is theirs alone and noise times spread evenly."""
    ids = jnp.arange(len(x0), dtype=jnp.uint32)
    tau = ((ids + 0.5) / len(x0))[:, None]
    epsilon = random.normal(random.stream(0, "held"), ids, x0.shape[1:])
    return Denoising().at(model, x0, epsilon, tau, model.conditions.signals({"label": labels}))


@jax.jit
def pooled(model: Any, x0: Any) -> Any:
    """The aligned block's mean features of pictures at tau = 0.3, without their class."""
    ids = jnp.arange(len(x0), dtype=jnp.uint32)
    tau = jnp.full((len(x0), 1), 0.3)
    x = model.process.add_noise(x0, random.normal(random.stream(0, "probe"), ids, x0.shape[1:]), tau)
    signals = model.conditions.signals({"label": jnp.full(len(x0), -1)})
    return layers(model.look(x, tau, signals)[1].intermediates)[LAYER].mean((1, 2, 3))


def probe(train: np.ndarray, labels: np.ndarray, test: np.ndarray, wanted: np.ndarray) -> float:
    """Accuracy of a ridge regression on one-hot classes."""
    mean, scale = train.mean(0), train.std(0) + 1e-6
    a, b = (np.concatenate([(x - mean) / scale, np.ones((len(x), 1))], 1) for x in (train, test))
    weight = np.linalg.solve(a.T @ a + 10 * np.eye(a.shape[1]), a.T @ np.eye(10)[labels])
    return float(((b @ weight).argmax(1) == wanted).mean())


def step_times(rounds: int) -> dict[str, float]:
    """Seconds of a loss and gradient, the median over rounds in which every variant has its turn."""
    x = jax.random.normal(jax.random.key(0), (BATCH, 1, SIDE, SIDE, 3))
    batch = {"media": x, "id": jnp.arange(BATCH, dtype=jnp.uint32), "label": jnp.arange(BATCH) % 10}
    seen = batch | {"features": jax.random.normal(jax.random.key(1), (BATCH, 1, 4, 4, 64))}
    calls, times = {}, {name: [] for name in TERMS}
    for name, terms in TERMS.items():
        run = run_of(name, 64, 0)
        objective = Aligned(run.denoiser.objective, terms)
        model = objective.init(jax.random.key(0), run.denoiser.denoiser, (1, SIDE, SIDE, 3), 64)
        gradient = jax.jit(jax.grad(lambda m, b, objective=objective: objective(m, b, jax.random.key(2)).value))
        calls[name] = partial(gradient, model, seen if objective.reads else batch)
        jax.block_until_ready(calls[name]())
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - began)
    return {name: float(np.median(each)) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("alignment"))
    parser.add_argument("--examples", type=int, default=19_200)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="*", default=list(TERMS))
    args = parser.parse_args()
    keep_memory()
    if not (args.out / "catalogue").exists():
        curate(args.data, args.out / "catalogue")
    catalogue = Catalogue(args.out / "catalogue")
    [(bucket, seen, held)], judge = examples_and_judge(run_of("none", args.examples, 0), catalogue)
    assert judge is not None
    clean = {name: jnp.asarray(c.media[:2048] / np.float32(127.5) - 1) for name, c in (("train", seen), ("held", held))}
    rows = []
    for name in args.only:
        for seed in range(args.seeds):
            run = run_of(name, args.examples, seed)
            folder = train_run(run, catalogue, args.out / f"{name}.{seed}")
            generator = Generator.load(folder.path)
            model, n = generator.denoiser, min(run.evaluation.samples, len(held.media))
            samples = generator.draw([""] * n, held.labels[:n], ids=np.arange(n), bucket=bucket)
            scores = generation_scores(samples, seen.media, held.media[:n], judge.features, 0)
            hot = multi_hot(held.wanted, 10)
            right = label_score(samples, hot[:n], held.media, hot, judge, 0)
            parts = {k: np.asarray(pooled(model, x)) for k, x in clean.items()}
            row = {
                "terms": name, "seed": seed, "n": n,
                "loss": float(held_back_loss(model, clean["held"], held.labels[: len(clean["held"])]).mean()),
                "FD": scores[0].value, "FD real": scores[0].floor, "class": right.value, "class real": right.floor,
                "probe": probe(parts["train"], seen.labels[:2048], parts["held"], held.labels[: len(parts["held"])]),
            }  # fmt: skip
            rows.append(row)
            print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    steps = step_times(args.rounds)
    print("step  " + "  ".join(f"{name} {seconds / steps['none']:.2f}" for name, seconds in steps.items()))
    print(json.dumps({"examples": args.examples, "steps": steps, "rows": rows}))


if __name__ == "__main__":
    main()
