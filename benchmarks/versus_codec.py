"""Codecs against diffusers' autoencoders in PyTorch: time of a training step, quality at equal steps and equal time.

Install:   python -m pip install -e . 'torch==2.13.0' 'diffusers==0.42.1'     (without a GPU: PyTorch's "cpu" wheel)
Command:   taskset -c 0,1 python -m benchmarks.versus_codec DATA --out versus_codec       (--only stills, --only video)
           DATA holds images/*_128px.parquet and video/panda70m/*.mp4
Hardware:  two CPU cores with nothing else on them for the times of steps; trainings may share them, for they are
           compared by steps, and by steps times what a step was measured to take. About half an hour each.

Stills at 64 x 64 with 48 times fewer numbers: `AutoencoderKL` (8 x 8 pixels, 4 channels) against ours of as many
parameters. Videos of 17 frames with about 100 times fewer: `AutoencoderKL` frame by frame with 2 channels (96 times),
and `AutoencoderKLWan` (4 x 8 x 8, 6 channels, 109 times), which like ours codes in time, against ours of 6 channels.
All learn from the same pictures in the same order, by the mean squared error and 1e-4 times the divergence a latent,
with a rate that rises over a twentieth of the steps and falls as a cosine to zero; PyTorch by fused AdamW at the best
of the rates tried on a tenth of the steps; ours by AdamW at the same rate, and by Muon, which our recipes use.
Judged on pictures and videos that were held back, as are the rates tried. Scores and times of steps are kept under
--out: a run that was killed goes on with the next, and one with other options wants another folder. The last line is
JSON.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderKLWan

from benchmarks.codec_training import (
    Fit,
    Videos,
    batches,
    codec_of,
    latents_of,
    media_of,
    own_network,
    schedule,
    stills,
)
from diorama.codec import CodecConfig, CodecLoss, ConvCodecConfig, Patch
from diorama.codec.loss import L2, OwnPerceptual
from diorama.core.files import write_text
from diorama.core.memory import keep_memory
from diorama.core.module import count
from diorama.evaluate import psnr, quantise, ssim
from diorama.train import AdamW, Muon
from diorama.train.optimizer import Optimizer

SEED, SIDE, FRAMES, KL_WEIGHT = 0, 64, 17, 1e-4
RATES = (5e-4, 1e-3, 2e-3)
MUON_RATE = 4e-3  # as in every recipe
Feed = Callable[[], Iterator[np.ndarray]]


class Theirs:
    """An autoencoder of diffusers and its training, as one writes it in PyTorch."""

    def __init__(self, model: Any, steps: int, rate: float, by_frame: bool, compiled: bool = False) -> None:
        self.model, self.by_frame, self.steps = model, by_frame, steps
        if by_frame:
            model.to(memory_format=torch.channels_last)  # measured faster on CPU
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        rise = max(steps // 20, 1)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda n: min(1.0, (n + 1) / rise) * 0.5 * (1 + np.cos(np.pi * min(n / steps, 1)))
        )
        self._loss = torch.compile(self._whole) if compiled else self._whole

    def _whole(self, x: torch.Tensor) -> torch.Tensor:
        posterior = self.model.encode(x).latent_dist
        again = self.model.decode(posterior.sample()).sample
        mean, logvar = posterior.mean, posterior.logvar
        divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return (again - x).square().mean() + KL_WEIGHT * divergence

    def _enter(self, media: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(media / np.float32(127.5) - 1)
        if self.by_frame:
            return x.flatten(0, 1).permute(0, 3, 1, 2)  # channels last as it lies
        return x.permute(0, 4, 1, 2, 3).contiguous()

    def step(self, media: np.ndarray) -> None:
        """One step on uint8 clips."""
        loss = self._loss(self._enter(media))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()

    def again(self, media: np.ndarray) -> np.ndarray:
        """What uint8 clips become."""
        parts = []
        with torch.no_grad():
            for clip in media:
                x = self._enter(clip[None])
                y = self.model.decode(self.model.encode(x).latent_dist.mode()).sample
                y = y.permute(0, 2, 3, 1) if self.by_frame else y[0].permute(1, 2, 3, 0)
                parts.append(y.numpy())
        return quantise(np.stack(parts))


def kl(channels: int) -> AutoencoderKL:
    """diffusers' image autoencoder at 8 x 8 pixels a cell, of about a million parameters."""
    torch.manual_seed(SEED)
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 64), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=channels, norm_num_groups=16, layers_per_block=1,
    )  # fmt: skip


def wan(channels: int) -> AutoencoderKLWan:
    """diffusers' causal video autoencoder at 4 x 8 x 8, of about a million parameters."""
    torch.manual_seed(SEED)
    return AutoencoderKLWan(
        base_dim=10, z_dim=channels, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * channels, latents_std=[1.0] * channels,
    )  # fmt: skip


class Task:
    """One kind of media: its data, the peers, and ours."""

    def __init__(self, kind: str, data: Path) -> None:
        self.kind = kind
        if kind == "stills":
            train, self.held = stills(data, SIDE)
            self.batch, self.sample = 16, train
            self.feed: Feed = lambda: batches(train, self.batch, SEED)
            self.peers: dict[str, tuple[Callable[[], Any], bool]] = {"AutoencoderKL": (lambda: kl(4), True)}
            self.ours = ConvCodecConfig(spatial=8, temporal=1, channels=4, front=Patch(4), widths=(96, 96))
        else:
            videos = Videos(data, FRAMES, SIDE)
            self.batch, self.held = 2, videos.held
            self.sample = np.stack([clip[:1] for clip in videos.train])
            self.feed = lambda: videos.batches(self.batch, SEED)
            self.peers = {"AutoencoderKL": (lambda: kl(2), True), "AutoencoderKLWan": (lambda: wan(6), False)}
            self.ours = ConvCodecConfig(spatial=8, temporal=4, channels=6, front=Patch(4), widths=(96, 96))

    def fit(self, steps: int, rate: float, optimizer: Optimizer) -> Fit:
        """Ours, about to begin."""
        config: CodecConfig = self.ours
        objective = CodecLoss((L2(),)).objective(config)
        train = schedule(steps, self.batch, rate, optimizer=optimizer, ema_std=())
        return Fit(objective.init, objective, train, next(self.feed()), SEED)


def step_times(task: Task, rounds: int, compiled: bool) -> dict[str, list[float]]:
    """Seconds of training steps; contenders take turns, and the first step of a turn is not counted."""
    media = next(task.feed())
    calls: dict[str, Callable[[np.ndarray], None]] = {
        "ours, AdamW": task.fit(1000, 1e-3, AdamW()).step, "ours, Muon": task.fit(1000, MUON_RATE, Muon()).step,
    }  # fmt: skip
    for name, (make, by_frame) in task.peers.items():
        calls[name] = Theirs(make(), 1000, 1e-3, by_frame).step
        if compiled and by_frame:  # the other keeps frames in lists as it goes, which is compiled anew each time
            calls[f"{name}, compiled"] = Theirs(make(), 1000, 1e-3, by_frame, compiled=True).step
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(media), call(media)
    for _ in range(rounds):
        for name, call in calls.items():
            call(media)
            for _ in range(3):
                began = time.perf_counter()
                call(media)
                times[name].append(time.perf_counter() - began)
    return times


def scores(held: np.ndarray, again: np.ndarray, network: Path) -> dict[str, float]:
    """Means over clips. The perceptual distance is by our own network, fitted to the training pictures."""
    judge = OwnPerceptual(weights=str(network)).init()
    compare = jax.jit(lambda a, b: judge.compare(a, b))  # type: ignore[attr-defined]
    pairs = ((x[None] / np.float32(127.5) - 1 for x in clip) for clip in zip(again, held, strict=True))
    return {
        "psnr": float(psnr(held, again).mean()), "ssim": float(ssim(held, again).mean()),
        "perceptual": float(np.mean([compare(a, b) for a, b in pairs])),
    }  # fmt: skip


class Kept:
    """Scores of each training by name, in a file, so that what was trained is not trained again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scores: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, name: str, make: Callable[[], dict[str, float]]) -> dict[str, float]:
        if name not in self.scores:
            began = time.perf_counter()
            self.scores[name] = make()
            write_text(self.path, json.dumps(self.scores, indent=1) + "\n")
            print(f"  {name}: {time.perf_counter() - began:.0f} s", flush=True)
        return self.scores[name]


class Trainings:
    """Everything that is trained for one task, and its scores."""

    def __init__(self, task: Task, steps: int, out: Path) -> None:
        self.task, self.steps = task, steps
        self.network = own_network(task.sample, out / f"{task.kind}.perceptual.safetensors", 150, SEED)
        self.kept = Kept(out / f"{task.kind}.json")

    def at_equal_steps(self) -> None:
        """Ours by Muon, peers at the best of the rates, and ours by AdamW at that rate."""
        steps, few = self.steps, max(self.steps // 10, 1)
        self.ours(f"ours, Muon, {steps} steps", steps, MUON_RATE, Muon())
        for name in self.task.peers:
            tried = [self.theirs(name, few, rate)["psnr"] for rate in RATES]
            rate = RATES[int(np.argmax(tried))]
            self.theirs(name, steps, rate)
            self.ours(f"ours, AdamW, {steps} steps, rate {rate:g}", steps, rate, AdamW())

    def at_equal_time(self, ratios: dict[str, float]) -> None:
        """Ours by Muon for as long as each peer would take. `ratios`: of its step's time, compiled if that is faster,
        to ours."""
        for name in self.task.peers:
            steps = round(self.steps * ratios[name])
            self.ours(f"ours, Muon, {steps} steps: the time of {name}", steps, MUON_RATE, Muon())

    def theirs(self, name: str, steps: int, rate: float) -> dict[str, float]:
        """The scores of a peer."""
        make, by_frame = self.task.peers[name]

        def fitted() -> dict[str, float]:
            peer = Theirs(make(), steps, rate, by_frame)
            for media in islice(self.task.feed(), steps):
                peer.step(media)
            return scores(self.task.held, peer.again(self.task.held), self.network)

        return self.kept.get(f"{name}, {steps} steps, rate {rate:g}", fitted)

    def ours(self, name: str, steps: int, rate: float, optimizer: Optimizer) -> dict[str, float]:
        """The scores of ours."""

        def fitted() -> dict[str, float]:
            fit = self.task.fit(steps, rate, optimizer)
            for media in islice(self.task.feed(), steps):
                fit.step(media)
            codec = codec_of(fit, self.task.ours, self.task.feed())
            again = media_of(codec, latents_of(codec, self.task.held, 8), 8)
            return scores(self.task.held, again, self.network)

        return self.kept.get(name, fitted)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("versus_codec"))
    parser.add_argument("--only", choices=("stills", "video"))
    parser.add_argument("--steps", type=int, default=0, help="of each training; else 500 of stills, 200 of videos")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each contender in timing")
    parser.add_argument("--eager-only", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    keep_memory()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    report: dict[str, Any] = {"seed": SEED, "jax": jax.__version__, "torch": torch.__version__}
    for kind in (options.only,) if options.only else ("stills", "video"):
        task = Task(kind, options.data)
        sizes = {name: sum(p.numel() for p in make().parameters()) for name, (make, _) in task.peers.items()}
        sizes["ours"] = count(jax.eval_shape(task.ours.init, jax.random.key(0)))
        print(f"{kind}: {task.held.shape} held back; parameters", sizes, f"load {os.getloadavg()[0]:.1f}", flush=True)
        trainings = Trainings(task, options.steps or {"stills": 500, "video": 200}[kind], options.out)
        trainings.at_equal_steps()
        file = options.out / f"{kind}.times.json"
        if not file.exists():
            write_text(file, json.dumps(step_times(task, options.rounds, not options.eager_only)))
        times = {name: median(values) for name, values in json.loads(file.read_text()).items()}
        for name, value in times.items():
            print(f"  {name:30}{1e3 * value:10.0f} ms a step, {value / times['ours, Muon']:.2f} times ours by Muon")
        fastest = {name: min(t for other, t in times.items() if other.split(",")[0] == name) for name in task.peers}
        trainings.at_equal_time({name: value / times["ours, Muon"] for name, value in fastest.items()})
        for name, row in trainings.kept.scores.items():
            print(f"  {name:60}", *(f"{key} {value:.4f}" for key, value in row.items()))
        report[kind] = {"parameters": sizes, "step_s": times} | trainings.kept.scores
    print(json.dumps(report))


if __name__ == "__main__":
    main()
